// The report of a test as a file of the caller's: JSON, or the page when its name says so.

import path from 'node:path';
import { reportPage, verifyReport } from '../dr-receiver/index.js';
import { DrError } from '../shared/errors.js';
import { writeDurably } from '../shared/files/index.js';
import type { CliContext } from './context.js';

/** @throws DrError E_NOT_FOUND (there is no report), E_IO */
export async function writeReport(
  { files, folder, random }: CliContext,
  name: string,
  reportJson: string,
): Promise<void> {
  if (reportJson === '') throw new DrError('E_NOT_FOUND', 'the test left no report');
  const isPage = name.toLowerCase().endsWith('.html');
  const text = isPage ? reportPage(verifyReport(reportJson, 'the report')) : reportJson;
  await writeDurably(files, path.resolve(folder, name), Buffer.from(text), random);
}
