// What each step of an operation gets: the VM and its record, the site, what was asked for.

import { defined } from '../../../shared/assert.js';
import type { Guid } from '../../../shared/bytes/index.js';
import { DrError } from '../../../shared/errors.js';
import type { ParameterValues } from '../../../shared/params/index.js';
import type { VmDesk } from '../../ingest/vm-desk.js';
import type { Point } from '../../store/point.js';
import type { VmStore } from '../../store/vm-store.js';
import type { CheckResult } from '../drill/checks.js';
import type { OperationTable } from '../engine.js';
import type { FailoverBook, FailoverPatch } from '../failover-book.js';
import type { FailoverRecord, Instance } from '../model.js';
import type { SourceOrder, SourceSite, TargetHost } from '../ports.js';
import type { Run } from '../run.js';
import { type FailoverSite, requireHost } from '../site.js';
import { valuesOf } from './values.js';

export { valuesOf } from './values.js';

export interface Asked {
  /** Names of the parameter table with their values as text. */
  readonly parameters: Readonly<Record<string, string>>;
  readonly by: string;
  readonly keyId: string | undefined;
}

export class Work {
  readonly site: FailoverSite;
  readonly desk: VmDesk;
  readonly book: FailoverBook;
  readonly run: Run;
  /** Of the operation; what was asked for with an earlier one counts for its own. */
  readonly values: ParameterValues;
  /** Of the VM that came up, as far as they were made by this process. */
  checks: readonly CheckResult[] = [];

  constructor(site: FailoverSite, desk: VmDesk, book: FailoverBook, run: Run) {
    this.site = site;
    this.desk = desk;
    this.book = book;
    this.run = run;
    this.values = valuesOf(book.operation.parameters);
  }

  get vm(): VmStore {
    return this.desk.vm;
  }

  get record(): FailoverRecord {
    return this.vm.protection.failover;
  }

  get operationId(): Guid {
    return this.book.operation.operationId;
  }

  get host(): TargetHost {
    return requireHost(this.site);
  }

  /** The VM that serves, comes up or goes off. */
  get instance(): Instance {
    return defined(this.record.instance, 'the operation has a VM at this site');
  }

  get point(): Point {
    const pointId = this.record.instance?.pointId ?? this.book.operation.pointId;
    return defined(
      this.vm.protection.point(defined(pointId, 'a point was chosen')),
      'a point in use stays listed',
    );
  }

  /** The agent of the primary; undefined when none is attached. */
  get source(): SourceSite | undefined {
    return this.site.sources.find(this.vm.vmId, this.vm.protection.owner);
  }

  get order(): SourceOrder {
    return { operationId: this.operationId, epoch: this.vm.protection.epoch };
  }
}

export type WorkTable = OperationTable<Work, FailoverPatch>;

/**
 * Asks something of the source that it may also learn later. True: it is done.
 * What the source refuses is no reason to stop: it is owed, and told again at its next contact.
 */
export async function tellIfThere(
  work: Work,
  tell: (source: SourceSite) => Promise<void>,
): Promise<boolean> {
  const { source, values } = work;
  // what is forced waits for nobody
  if (source === undefined || values.force) return false;
  try {
    await tell(source);
    return true;
  } catch (error) {
    if (!(error instanceof DrError)) throw error;
    const { vmId } = work.vm;
    work.site.log.warn('failover.source-not-told', {
      vmId,
      code: error.code,
      reason: error.message,
    });
    return false;
  }
}
