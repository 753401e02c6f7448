// Switches and the adapters of VMs. Names of switches may repeat: they are connected by their ids.

import type { Guid } from '../../../bytes/index.js';
import type { Operation } from '../powershell/operation.js';
import { CHANGE_MS, done, LOOK_MS } from './answers.js';

export interface SwitchFacts {
  readonly id: string;
  readonly name: string;
  /** `Private`, `Internal`, `External`; another name is passed on. */
  readonly type: string;
}

export const listSwitches: Operation<Record<string, never>, readonly SwitchFacts[]> = {
  name: 'switch.list',
  timeoutMs: LOOK_MS,
  read: (fields) =>
    fields.list('switches', (item) => ({
      id: item.string('id', 64),
      name: item.string('name', 1024),
      type: item.string('type', 32),
    })),
};

export interface NewAdapter {
  readonly [name: string]: string | boolean | null;
  readonly vmId: Guid;
  readonly name: string;
  /** null: the host chooses, and may choose anew at each start. */
  readonly mac: string | null;
  readonly isLegacy: boolean;
}

/** Not connected. */
export const addAdapter: Operation<NewAdapter, { readonly adapterId: Guid }> = {
  name: 'adapter.add',
  timeoutMs: CHANGE_MS,
  read: (fields) => ({ adapterId: fields.guid('adapterId') }),
};

interface OfAdapter {
  readonly [name: string]: string;
  readonly vmId: Guid;
  readonly adapterId: Guid;
}

export const connectAdapter: Operation<OfAdapter & { readonly switchId: string }, void> = {
  name: 'adapter.connect',
  timeoutMs: CHANGE_MS,
  read: done,
};

export const disconnectAdapter: Operation<OfAdapter, void> = {
  name: 'adapter.disconnect',
  timeoutMs: CHANGE_MS,
  read: done,
};

/** null: untagged. */
export const setAdapterVlan: Operation<
  { readonly vmId: Guid; readonly adapterId: Guid; readonly vlanId: number | null },
  void
> = { name: 'adapter.setVlan', timeoutMs: CHANGE_MS, read: done };

export const setAdapterMac: Operation<OfAdapter & { readonly mac: string }, void> = {
  name: 'adapter.setMac',
  timeoutMs: CHANGE_MS,
  read: done,
};
