// The host itself.

import type { Operation } from '../powershell/operation.js';
import { LOOK_MS } from './answers.js';

export interface HostFacts {
  readonly computerName: string;
  /** `10.0.20348` */
  readonly osVersion: string;
  readonly defaultVmFolder: string;
  readonly defaultDiskFolder: string;
  /** Configuration versions that it can run, ascending. */
  readonly vmVersions: readonly string[];
  readonly secureBootTemplates: readonly { readonly id: string; readonly name: string }[];
  /** Its name as a node; undefined: it is in no cluster. */
  readonly clusterNode: string | undefined;
}

export const getHost: Operation<Record<string, never>, HostFacts> = {
  name: 'host.get',
  timeoutMs: LOOK_MS,
  read: (fields) => ({
    computerName: fields.string('computerName', 255),
    osVersion: fields.string('osVersion', 64),
    defaultVmFolder: fields.string('defaultVmFolder'),
    defaultDiskFolder: fields.string('defaultDiskFolder'),
    vmVersions: fields.strings('vmVersions'),
    secureBootTemplates: fields.list('secureBootTemplates', (item) => ({
      id: item.string('id', 64),
      name: item.string('name', 255),
    })),
    clusterNode: fields.optionalString('clusterNode'),
  }),
};
