// What the steps of a test session get, and what they gather for its report.

import type { VmDesk } from '../../ingest/vm-desk.js';
import { DrError } from '../../../shared/errors.js';
import type { ParameterValues } from '../../../shared/params/index.js';
import type { Point } from '../../store/point.js';
import { type CheckResult, isPassed } from '../drill/checks.js';
import type { AdapterPlan } from '../../../shared/network/index.js';
import type { TargetHost } from '../ports.js';
import type { Progress, Run } from '../run.js';
import { type FailoverSite, requireHost } from '../site.js';
import type { TestBook } from '../test-book.js';
import { valuesOf } from './work.js';

/** What is gathered on the way; a session that is cut off by a crash proves nothing. */
export class TestWork {
  readonly site: FailoverSite;
  readonly desk: VmDesk;
  readonly book: TestBook;
  readonly run: Run;
  readonly values: ParameterValues;
  readonly timeline: (Progress & { readonly atMs: number })[] = [];
  results: readonly CheckResult[] = [];
  network: readonly AdapterPlan[] = [];
  reportJson = '';

  constructor(site: FailoverSite, desk: VmDesk, book: TestBook, run: Run) {
    this.site = site;
    this.desk = desk;
    this.book = book;
    this.run = run;
    this.values = valuesOf(book.session.parameters);
  }

  get host(): TargetHost {
    return requireHost(this.site);
  }

  get point(): Point {
    const { vm } = this.desk;
    const { pointId } = this.book.session.instance;
    const point = vm.protection.point(pointId);
    if (point !== undefined) return point;
    throw new DrError('E_NO_POINT', `${vm.protection.vmName} has no point ${pointId} any more`);
  }

  get isPassed(): boolean {
    return isPassed(this.results);
  }
}
