// A long line: 10 ms each way between the sites. What must not happen is a window that holds less
// than the line does. The line is a proxy of ours (delay-proxy.ts) and not the kernel's netem, which
// is a module that many machines lack: TCP itself sees the loopback, the windows above it see the
// delay. The proxy takes processor time that a real line does not, so the same proxy without delay
// is the measure, and the figure without any proxy stands beside it.

import { join } from 'node:path';
import { type Bench, type Contender, MIB, speedGoal } from '../bench.js';
import { writeRandomFile } from '../data.js';
import { makeEmptyTarget, NBD_PROGRAMS, nbdCopy, serveNbd, writeNbdKey } from '../network-peers.js';
import { expectSameFile, sync } from '../peers.js';
import { Replication } from '../replication.js';
import type { Services } from '../services.js';
import { megabytesPerSecond } from '../statistics.js';

const DELAY_MS = 10;
const DIRECT = 'hvdr push, loopback';
const SHORT = 'hvdr push, proxy without delay';
const LONG = 'hvdr push, proxy with 10 ms each way';
const PEER = 'nbdcopy over TLS-PSK, proxy with 10 ms each way';

export const roundTrip: Bench = {
  name: 'rtt-20ms',
  question: '256 MiB of random data are seeded over a line with 10 ms delay each way, durable.',
  sizeBytes: 256 * MIB,
  spaceBytes: 8 * 256 * MIB,
  programs: [...NBD_PROGRAMS, 'cmp'],
  async prepare(context) {
    const { folder, product, sizeBytes } = context;
    const original = join(folder, 'original.raw');
    const theirs = join(folder, 'theirs.raw');
    const keyFile = join(folder, 'nbd.psk');
    writeRandomFile(original, sizeBytes, 'rtt-20ms');
    writeNbdKey(keyFile);
    const proxied = async (services: Services, port: number, delayMs: number): Promise<number> => {
      const proxy = await services.start({
        command: product.helper('delay-proxy', String(port), String(delayMs)),
        isCounted: false,
      });
      return proxy.port;
    };
    let port = 0;
    const ours = (name: string, delayMs: number | undefined): Contender => {
      const replication = new Replication(
        context,
        delayMs === undefined ? 'direct' : `d${delayMs}`,
      );
      return {
        name,
        role: 'ours',
        payloadBytes: sizeBytes,
        async prepare() {
          await replication.makeVm(original);
          await replication.forget();
        },
        async serve(services) {
          ({ port } = await replication.serve(services));
          if (delayMs !== undefined) port = await proxied(services, port, delayMs);
          await replication.readSource();
        },
        commands: () => [replication.push({ ...replication.target, port })],
        verify: () => replication.expectReplica(original),
      };
    };
    return Promise.resolve({
      settings: { 'disk MiB': sizeBytes / MIB, line: 'proxy process on the same machine' },
      contenders: [
        ours(DIRECT, undefined),
        ours(SHORT, 0),
        ours(LONG, DELAY_MS),
        {
          name: PEER,
          role: 'peer',
          payloadBytes: sizeBytes,
          inputs: [original],
          prepare: () => makeEmptyTarget(theirs, sizeBytes),
          async serve(services) {
            ({ port } = await serveNbd(services, { file: theirs, keyFile }));
            port = await proxied(services, port, DELAY_MS);
          },
          commands: () => [nbdCopy(original, port, keyFile), sync(theirs)],
          verify: () => expectSameFile(original, theirs),
        },
      ],
      goals: [
        speedGoal(LONG, SHORT, 0.8),
        {
          text: 'rate over the long line',
          unit: 'MB/s',
          bound: 'at least',
          value: 200,
          figure: (medianOf) => megabytesPerSecond(sizeBytes, medianOf(LONG).wallSeconds),
        },
      ],
    });
  },
};
