// What `hvdr psk` does; psk.ts has the command line and loads this file when it is asked for.

import { createSecretKey } from 'node:crypto';
import os from 'node:os';
import path from 'node:path';
import { parseGuid } from '../shared/bytes/index.js';
import {
  encodeKey,
  isKeyId,
  isPrincipal,
  isRole,
  keyFromPassphrase,
  loadKey,
  PASSPHRASE_BYTES_MAX,
  type PreSharedKey,
} from '../shared/channel/index.js';
import { DrError } from '../shared/errors.js';
import { readSmall, refuseExisting } from '../shared/files/index.js';
import type { CliContext } from './context.js';

const SECRET_BYTES = 32;
const DAY_MS = 86_400_000;
const COMMENT =
  '# Pre-shared key of hvdr. Whoever has this file can act as its owner: keep it secret.\n';

export interface GenerateFlags {
  readonly out: string;
  readonly id?: string;
  readonly principal?: string;
  readonly role: string;
  readonly vms: string;
  readonly receiverId?: string;
  readonly receiver: readonly string[];
  readonly fromPassphrase?: string;
}

export async function generateKey(flags: GenerateFlags, context: CliContext): Promise<void> {
  const out = path.resolve(context.folder, flags.out);
  await refuseExisting(context.files, out, false);
  await context.keepSecrets();
  const key = await makeKey(flags, context);
  await writeKey(out, key, context);
  const { keyId, principal, role, vmPattern } = key;
  context.output.result(
    { file: flags.out, id: keyId, principal, role, vms: vmPattern },
    () => `${flags.out}: key ${keyId} of ${principal}, role ${role}, VMs ${vmPattern}`,
  );
}

async function makeKey(flags: GenerateFlags, context: CliContext): Promise<PreSharedKey> {
  const { role, vms } = flags;
  if (!isRole(role)) {
    throw usage(`${role} is no role`, 'The roles are source, viewer, drill and operator.');
  }
  const keyId = flags.id ?? context.random.fill(Buffer.alloc(8)).toString('hex');
  if (!isKeyId(keyId)) {
    throw usage(`${keyId} is no id of a key`, 'Letters, digits, . _ and -, at most 64.');
  }
  if (vms === '' || Buffer.byteLength(vms) > 256) {
    throw usage('the VM pattern is empty or too long', 'Name VMs, with * and ? as wildcards.');
  }
  if (flags.receiverId !== undefined && parseGuid(flags.receiverId) === undefined) {
    throw usage(
      `${flags.receiverId} is no id of a store`,
      '`hvdr status --json` shows it as storeId.',
    );
  }
  const pins = {
    ...(flags.receiverId === undefined ? {} : { receiverId: flags.receiverId }),
    ...(flags.receiver.length === 0 ? {} : { receiverAddresses: flags.receiver }),
  };
  if (flags.receiver.length > 16 || flags.receiver.some((address) => address.length > 256)) {
    throw usage('there are too many or too long receiver addresses', 'At most 16.');
  }
  const createdAtMs = context.clock.now();
  if (flags.fromPassphrase !== undefined) {
    refusePassphraseFor(flags);
    const passphrase = await readPassphrase(flags.fromPassphrase, context);
    try {
      const key = await keyFromPassphrase(passphrase, keyId, createdAtMs);
      return { ...key, vmPattern: vms, ...pins };
    } finally {
      passphrase.fill(0);
    }
  }
  const principal = flags.principal ?? os.hostname();
  if (!isPrincipal(principal)) {
    throw usage(`${JSON.stringify(principal)} is no name of a principal`, 'Give another one.');
  }
  const secret = context.random.fill(Buffer.alloc(SECRET_BYTES));
  try {
    const stored = createSecretKey(secret);
    return { keyId, principal, role, vmPattern: vms, createdAtMs, secret: stored, ...pins };
  } finally {
    secret.fill(0);
  }
}

function refusePassphraseFor({ role, id, principal }: GenerateFlags): void {
  if (role !== 'source') {
    throw usage(`a key of the role ${role} cannot be a passphrase`, 'Leave --from-passphrase out.');
  }
  if (id === undefined) {
    throw usage('a passphrase needs --id', 'The source names the same id in dr_psk_id.');
  }
  if (principal !== undefined && principal !== id) {
    throw usage(
      'the principal of a passphrase is its id',
      'Leave --principal out: the source knows nothing but dr_psk and dr_psk_id.',
    );
  }
}

/** Without the line end that editors and `echo` leave. The caller wipes it. */
async function readPassphrase(where: string, context: CliContext): Promise<Buffer> {
  const bytes = await readSecretBytes(where, context);
  let end = bytes.length;
  while (end > 0 && (bytes[end - 1] === 10 || bytes[end - 1] === 13)) end--;
  return bytes.subarray(0, end);
}

async function readSecretBytes(where: string, context: CliContext): Promise<Buffer> {
  if (where === '-') {
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      size += chunk.length;
      if (size > 2 * PASSPHRASE_BYTES_MAX) throw usage('the passphrase is too long', 'See --help.');
    }
    return Buffer.concat(chunks);
  }
  if (where.startsWith('env:')) {
    const name = where.slice('env:'.length);
    const value = context.environment[name];
    if (value !== undefined) return Buffer.from(value, 'utf8');
    throw usage(`there is no environment variable ${name}`, 'Set it, or use file:PATH or -.');
  }
  if (where.startsWith('file:')) {
    const file = path.resolve(context.folder, where.slice('file:'.length));
    const bytes = await readSmall(context.files, file, 2 * PASSPHRASE_BYTES_MAX);
    if (bytes !== undefined) return bytes;
    throw new DrError('E_NOT_FOUND', `there is no file ${file}`, { context: { path: file } });
  }
  // whatever stands there may be the passphrase itself: it is not said again
  throw usage(
    'a passphrase is not taken from the command line',
    'Use --from-passphrase env:NAME, file:PATH or - (standard input); choose another passphrase if this was one.',
  );
}

async function writeKey(out: string, key: PreSharedKey, { files }: CliContext): Promise<void> {
  const line = encodeKey(key);
  const bytes = Buffer.concat([Buffer.from(COMMENT, 'utf8'), line]);
  line.fill(0);
  // new files and folders are their owner's alone
  await files.makeFolder(path.dirname(out));
  const file = await files.open(out, { mode: 'create', isSecret: true });
  try {
    await file.write(0, bytes);
    await file.flush();
  } finally {
    await file.close();
    bytes.fill(0);
  }
  await files.flushFolder(path.dirname(out));
}

export async function inspectKey(name: string, context: CliContext): Promise<void> {
  await context.keepSecrets();
  const key = await loadKey(`file:${path.resolve(context.folder, name)}`, {
    fs: context.files,
    environment: context.environment,
  });
  const { keyId, principal, role, vmPattern, createdAtMs } = key;
  const ageDays = Math.max(0, Math.floor((context.clock.now() - createdAtMs) / DAY_MS));
  const createdAt = new Date(createdAtMs).toISOString();
  const receivers = [...(key.receiverAddresses ?? [])];
  context.output.result(
    {
      file: name,
      id: keyId,
      principal,
      role,
      vms: vmPattern,
      createdAt,
      ageDays,
      ...(key.receiverId === undefined ? {} : { receiverId: key.receiverId }),
      receivers,
    },
    () =>
      [
        ['file', name],
        ['id', keyId],
        ['principal', principal],
        ['role', role],
        ['VMs', vmPattern],
        ['created', `${createdAt} (${ageDays} days ago)`],
        ['receiver', key.receiverId ?? 'any'],
        ['addresses', receivers.length === 0 ? 'any' : receivers.join(', ')],
      ]
        .map(([title = '', value = '']) => `${title.padEnd(10)} ${value}`)
        .join('\n'),
  );
}

function usage(message: string, hint: string): DrError {
  return new DrError('E_USAGE', message, { hint });
}
