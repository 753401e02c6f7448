// The full check of a delta file, for `hvdr pcbt check`: every finding with its place, not only the
// first. Structure, order and bounds always; with a manifest the same cells on both sides and every
// hash. Changes nothing.

import type { BlockFile } from '../files/index.js';
import { DrError, type ErrorCode } from '../errors.js';
import { fileChunks } from './byte-source.js';
import { ManifestFile } from './manifest.js';
import { checkKind } from './manifest-format.js';
import { PcbtReader, walkPcbt } from './pcbt.js';
import { segmentsOf } from './segments.js';
import { CellVerifier } from './verifier.js';

export interface DeltaFinding {
  readonly code: ErrorCode;
  /** Which file the position is in; guest: a byte of the disk. */
  readonly where: 'delta' | 'manifest' | 'guest';
  readonly position: number;
  readonly message: string;
}

export interface DeltaCheckOptions {
  readonly diskSizeBytes?: number | undefined;
  readonly manifest?: BlockFile | undefined;
}

export interface DeltaCheckResult {
  /** Number of findings, whether or not the caller kept them. */
  readonly findingCount: number;
  /** Of legal blocks. */
  readonly blockCount: number;
  readonly deltaBytes: number;
  /** Whether the hashes were compared; not with a broken structure or manifest. */
  readonly isVerified: boolean;
}

/** Hands each finding to `report` as it is found; the list may be as long as the delta. */
export async function checkDelta(
  file: BlockFile,
  options: DeltaCheckOptions,
  report: (finding: DeltaFinding) => void,
): Promise<DeltaCheckResult> {
  let findingCount = 0;
  const found = (finding: DeltaFinding): void => {
    findingCount++;
    report(finding);
  };
  const manifest = await checkManifest(options.manifest, found);
  const diskSizeBytes = options.diskSizeBytes ?? manifest?.header.diskSizeBytes;
  if (manifest !== undefined && diskSizeBytes !== manifest.header.diskSizeBytes) {
    found({
      code: 'E_DISK_MISMATCH',
      where: 'manifest',
      position: 96,
      message: `the manifest is for a disk of ${manifest.header.diskSizeBytes} bytes`,
    });
  }
  let blockCount = 0;
  let deltaBytes = 0;
  let violationCount = 0;
  for await (const block of walkPcbt(file, { diskSizeBytes }, (violation) => {
    violationCount++;
    found({ ...violation, where: 'delta' });
  })) {
    blockCount++;
    deltaBytes += block.lengthBytes;
  }
  // Hashes say something only about a delta whose cells are where they are said to be.
  const isVerified =
    manifest !== undefined &&
    violationCount === 0 &&
    manifest.header.diskSizeBytes === diskSizeBytes;
  if (isVerified) await verifyCells(file, manifest, found);
  return { findingCount, blockCount, deltaBytes, isVerified };
}

async function checkManifest(
  file: BlockFile | undefined,
  found: (finding: DeltaFinding) => void,
): Promise<ManifestFile | undefined> {
  if (file === undefined) return undefined;
  try {
    const manifest = await ManifestFile.open(file);
    await manifest.verify();
    checkKind(manifest.header, 'delta');
    return manifest;
  } catch (error) {
    if (!(error instanceof DrError) || !error.code.startsWith('E_DELTA_')) throw error;
    const position = error.context['position'];
    found({
      code: error.code,
      where: 'manifest',
      position: typeof position === 'number' ? position : 0,
      message: error.message,
    });
    return undefined;
  }
}

async function verifyCells(
  file: BlockFile,
  manifest: ManifestFile,
  found: (finding: DeltaFinding) => void,
): Promise<void> {
  const { diskSizeBytes } = manifest.header;
  const verifier = new CellVerifier(manifest, ({ code, offset, message }) => {
    found({ code, where: 'guest', position: offset, message });
  });
  try {
    const reader = await PcbtReader.open(fileChunks(file), { diskSizeBytes });
    for await (const segment of segmentsOf(reader.pieces(), diskSizeBytes)) {
      await verifier.check(segment);
    }
    await verifier.finish();
  } finally {
    await verifier.close();
  }
}
