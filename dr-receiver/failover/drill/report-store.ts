// The reports of a store: each as JSON and as a page, under the id of its operation. A report that is
// made again after a crash replaces the former one.

import type { Guid } from '../../../shared/bytes/index.js';
import type { Random } from '../../../shared/clock.js';
import { type FileSystem, readSmall, writeDurably } from '../../../shared/files/index.js';
import type { StoreLayout } from '../../store/layout.js';
import { type DrillReport, REPORT_BYTES_MAX, reportText, signReport } from './report.js';
import { reportPage } from './report-page.js';
import { ensureReportKey } from './report-key.js';

export interface ReportSeams {
  readonly fs: FileSystem;
  readonly layout: StoreLayout;
  readonly random: Random;
}

/**
 * Signs a report and keeps it; returns its JSON text. Durable on return.
 * @throws DrError E_FILE_DAMAGED and E_KEY_FILE (the store's key), E_CAPACITY, E_IO
 */
export async function keepReport(
  operationId: Guid,
  report: DrillReport,
  { fs, layout, random }: ReportSeams,
): Promise<string> {
  const signed = signReport(report, await ensureReportKey(fs, layout, random));
  const text = reportText(signed);
  await fs.makeFolder(layout.reports);
  await writeDurably(
    fs,
    layout.report(operationId, 'html'),
    Buffer.from(reportPage(signed)),
    random,
  );
  // the last one: where the JSON is, the page is
  await writeDurably(fs, layout.report(operationId, 'json'), Buffer.from(text), random);
  return text;
}

/** The JSON text of a report that was kept; undefined when there is none. */
export async function readReport(
  operationId: Guid,
  { fs, layout }: Pick<ReportSeams, 'fs' | 'layout'>,
): Promise<string | undefined> {
  const bytes = await readSmall(fs, layout.report(operationId, 'json'), REPORT_BYTES_MAX);
  return bytes?.toString();
}
