// The other programs that bring a disk to another machine: nbdkit with nbdcopy over TLS-PSK, an
// rsync daemon, an NBD client that knows what changed. Each writes into a raw file of its own.

import { randomBytes } from 'node:crypto';
import { closeSync, ftruncateSync, openSync, utimesSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Command } from './command.js';
import { CELL_BYTES, type Run } from './data.js';
import { SYSTEM_PYTHON } from './peers.js';
import { freePort, LOOPBACK, type Service, type Services } from './services.js';

const NBD_USER = 'bench';
const RSYNC_MODULE = 'target';

/** Programs of nbdCopy() and serveNbd(). */
export const NBD_PROGRAMS: readonly string[] = ['nbdkit', 'nbdcopy'];

/** An empty sparse file of the size, in place of what was there. */
export async function makeEmptyTarget(path: string, sizeBytes: number): Promise<void> {
  await rm(path, { force: true });
  const descriptor = openSync(path, 'w');
  ftruncateSync(descriptor, sizeBytes);
  closeSync(descriptor);
}

/** Writes a key file in the form that GnuTLS reads (psktool makes the same). */
export function writeNbdKey(path: string): void {
  writeFileSync(path, `${NBD_USER}:${randomBytes(32).toString('hex')}\n`, { mode: 0o600 });
}

/** nbdkit with a raw file behind it; TLS-PSK and nothing else. */
export async function serveNbd(
  services: Services,
  { file, keyFile }: { file: string; keyFile: string },
): Promise<Service> {
  const port = await freePort();
  return services.start({
    command: {
      program: 'nbdkit',
      arguments: [
        ...['--foreground', '--exit-with-parent', '--ipaddr', LOOPBACK, '--port', String(port)],
        ...['--tls=require', `--tls-psk=${keyFile}`, 'file', file],
      ],
    },
    port,
    isCounted: true,
  });
}

/** nbdcopy of a raw file into an export that is all zero, flushed. */
export function nbdCopy(source: string, port: number, keyFile: string): Command {
  return {
    program: 'nbdcopy',
    arguments: ['--flush', '--destination-is-zero', source, nbdAddress(port, keyFile)],
  };
}

function nbdAddress(port: number, keyFile: string): string {
  return `nbds://${NBD_USER}@${LOOPBACK}:${port}?tls-psk-file=${keyFile}`;
}

/** An rsync daemon whose one module is the folder of `file`. */
export async function serveRsync(services: Services, file: string): Promise<Service> {
  const port = await freePort();
  const configuration = `${file}.rsyncd.conf`;
  writeFileSync(
    configuration,
    [
      'use chroot = no',
      `port = ${port}`,
      `address = ${LOOPBACK}`,
      `[${RSYNC_MODULE}]`,
      `path = ${dirname(file)}`,
      'read only = no',
      `uid = ${process.getuid?.() ?? 0}`,
      `gid = ${process.getgid?.() ?? 0}`,
      '',
    ].join('\n'),
  );
  return services.start({
    command: {
      program: 'rsync',
      arguments: ['--daemon', '--no-detach', `--config=${configuration}`],
    },
    port,
    isCounted: true,
  });
}

/** rsync's delta algorithm in place, with the block size that suits it best here. */
export function rsyncDelta(source: string, port: number, targetName: string): Command {
  return {
    program: 'rsync',
    arguments: [
      ...['--inplace', '--no-whole-file', '--block-size=65536', source],
      `rsync://${LOOPBACK}:${port}/${RSYNC_MODULE}/${targetName}`,
    ],
  };
}

/** rsync skips a file whose size and time are those of the source. */
export function makeLookOld(path: string): void {
  utimesSync(path, 1e9, 1e9);
}

// As many requests in flight as a client needs that waits for none of them; one write for each run.
// The buffers are used again, so that neither memory nor page faults grow with the change.
const NBD_RANGES_SCRIPT = `\
import os
import sys

import nbd

RUN_BYTES = ${CELL_BYTES}
IN_FLIGHT = 32

address, image, ranges = sys.argv[1:]
failed = []
free = [bytearray(RUN_BYTES) for _ in range(IN_FLIGHT)]


def giving_back(data):
    def finished(error):
        if error.value != 0:
            failed.append(error.value)
        free.append(data)
        return 1

    return finished


export = nbd.NBD()
export.set_uri_allow_local_file(True)
export.connect_uri(address)
source = os.open(image, os.O_RDONLY)
with open(ranges) as lines:
    for line in lines:
        while not free:
            export.poll(-1)
        data = free.pop()
        offset = int(line)
        if os.preadv(source, [data], offset) != RUN_BYTES:
            sys.exit("the image ends early")
        export.aio_pwrite(nbd.Buffer.from_buffer(data), offset, giving_back(data))
while export.aio_in_flight() > 0:
    export.poll(-1)
if failed:
    sys.exit("a write failed: %s" % os.strerror(failed[0]))
export.flush()
export.shutdown()
`;

export interface NbdRangesInput {
  readonly folder: string;
  readonly image: string;
  /** Of one cell each. */
  readonly runs: readonly Run[];
}

/** What a client costs that is told the changed ranges: makes its files, returns its command. */
export function nbdRangesClient({
  folder,
  image,
  runs,
}: NbdRangesInput): (port: number, keyFile: string) => Command {
  const script = join(folder, 'nbd-ranges.py');
  const ranges = join(folder, 'nbd-ranges.txt');
  writeFileSync(script, NBD_RANGES_SCRIPT);
  writeFileSync(ranges, runs.map(({ offset }) => `${offset}\n`).join(''));
  return (port, keyFile) => ({
    program: SYSTEM_PYTHON,
    arguments: [script, nbdAddress(port, keyFile), image, ranges],
  });
}
