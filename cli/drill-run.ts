// What the commands of `hvdr drill` do, and how the commands that run a drill hand out its report.

import path from 'node:path';
import {
  parsePublicKey,
  publicKeyOfStore,
  reportPage,
  type SignedReport,
  StoreLayout,
  verifyPage,
  verifyReport,
} from '../dr-receiver/index.js';
import { DrError } from '../shared/errors.js';
import { readSmall, refuseExisting, writeDurably } from '../shared/files/index.js';
import type { CliContext } from './context.js';

export interface VerifyReportFlags {
  readonly publicKey?: string;
}

const FILE_BYTES_MAX = 32 << 20;
const KEY_BYTES_MAX = 64 << 10;
const EXIT_WARNING = 3;

async function readText(context: CliContext, name: string, limitBytes: number): Promise<string> {
  const file = path.resolve(context.folder, name);
  const bytes = await readSmall(context.files, file, limitBytes);
  if (bytes !== undefined) return bytes.toString();
  throw new DrError('E_NOT_FOUND', `${name} is not there`, { context: { path: file } });
}

/** @throws DrError E_FILE_DAMAGED, E_FILE_VERSION, E_DIFFERENT, E_KEY_FILE, E_NOT_FOUND */
export async function verifyReportFile(
  name: string,
  flags: VerifyReportFlags,
  context: CliContext,
): Promise<void> {
  const { output } = context;
  const text = await readText(context, name, FILE_BYTES_MAX);
  const isPage = /^\s*</.test(text);
  const { report, signature } = isPage ? verifyPage(text, name) : verifyReport(text, name);
  const { publicKey: keyFile } = flags;
  if (keyFile !== undefined) {
    const key = parsePublicKey(await readText(context, keyFile, KEY_BYTES_MAX), keyFile);
    if (key.toString('base64') !== signature.publicKey) {
      throw new DrError(
        'E_DIFFERENT',
        `${name} was signed with another key than ${keyFile} holds`,
        {
          context: { path: name, keyId: signature.keyId },
          done: 'nothing of it was believed',
          hint: 'Compare with `hvdr drill public-key` of the store that should have made the report.',
        },
      );
    }
  }
  const isKeyKnown = keyFile !== undefined;
  if (!isKeyKnown) output.exitCode = EXIT_WARNING;
  const { verdict, vm, operationId, startedAtMs } = report;
  output.result(
    {
      ...{ file: name, isUnchanged: true, isKeyKnown, keyId: signature.keyId, verdict },
      ...{ vm: vm.name, operationId, startedAt: new Date(startedAtMs).toISOString() },
    },
    () =>
      [
        `${name}: unchanged since key ${signature.keyId} signed it`,
        `drill of ${vm.name} at ${new Date(startedAtMs).toISOString()}: ${verdict}`,
        ...(isKeyKnown
          ? []
          : ['warning: whose key that is was not checked; give --public-key FILE']),
      ].join('\n'),
  );
}

/** @throws DrError E_NOT_FOUND, E_LOCKED, E_EXISTS, E_KEY_FILE, E_FILE_DAMAGED */
export async function printPublicKey(
  flags: { readonly store: string; readonly out?: string },
  context: CliContext,
): Promise<void> {
  const { files: fs, folder, output, random } = context;
  const target = flags.out === undefined ? undefined : path.resolve(folder, flags.out);
  if (target !== undefined) await refuseExisting(fs, target, false);
  const layout = new StoreLayout(path.resolve(folder, flags.store));
  const key = await publicKeyOfStore(fs, layout, random);
  if (target !== undefined) await writeDurably(fs, target, Buffer.from(key.pem), random);
  output.result({ ...key, ...(flags.out === undefined ? {} : { file: flags.out }) }, () =>
    flags.out === undefined ? key.pem : `${flags.out}: public key ${key.keyId}`,
  );
}

/**
 * Checks the file name that a caller gave for a report, before the drill begins.
 * @throws DrError E_USAGE (neither .json nor .html), E_EXISTS
 */
export async function reserveReportFile(context: CliContext, name: string): Promise<void> {
  if (!/\.(json|html)$/i.test(name)) {
    throw new DrError('E_USAGE', `--report ${name} names neither a .json nor an .html file`);
  }
  await refuseExisting(context.files, path.resolve(context.folder, name), false);
}

/**
 * Writes a report that the receiver sent into the file of the caller, as the end of its name says.
 * @throws DrError E_FILE_DAMAGED, E_FILE_VERSION (what came is no signed report), E_CAPACITY, E_IO
 */
export async function writeReportFile(
  context: CliContext,
  name: string,
  reportJson: string,
): Promise<SignedReport> {
  const signed = verifyReport(reportJson, 'the answer of the receiver');
  const text = /\.html$/i.test(name) ? reportPage(signed) : reportJson;
  const file = path.resolve(context.folder, name);
  await writeDurably(context.files, file, Buffer.from(text), context.random);
  return signed;
}
