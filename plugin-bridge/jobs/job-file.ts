// Small texts as files of a job.

import type { FileSink } from '../../source-agent/index.js';

/** `path` is below the namespace. @throws DrError of the sink */
export async function sendText(
  sink: FileSink,
  path: string,
  text: string,
  modifiedAtMs: number,
): Promise<void> {
  const bytes = Buffer.from(text, 'utf8');
  await sink.file({ path, sizeBytes: bytes.length, modifiedAtMs }, whole(bytes));
}

async function* whole(bytes: Buffer): AsyncGenerator<Buffer> {
  await Promise.resolve();
  yield bytes;
}
