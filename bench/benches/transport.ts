// What the sealed channel costs by itself: no disk, no hash, nothing stored.

import { join } from 'node:path';
import { type Bench, cpuGoal, GIB } from '../bench.js';
import { perform } from '../measure.js';
import type { HelperName } from '../product.js';
import type { Services } from '../services.js';
import { removeFile } from './files.js';

const OURS = 'sealed channel to a sink';
const PEER = 'node:net, AES-256-GCM, to a sink';

export const transportOnly: Bench = {
  name: 'transport-only',
  question: 'A stream of messages of 1 MiB passes the channel to a service that drops them.',
  sizeBytes: GIB,
  spaceBytes: 1024 ** 2,
  programs: [],
  prepare({ folder, product, sizeBytes }) {
    const keyFile = join(folder, 'bench.psk');
    let port = 0;
    const start = async (
      services: Services,
      name: HelperName,
      ...words: string[]
    ): Promise<void> => {
      const command = product.helper(name, 'sink', ...words);
      ({ port } = await services.start({ command, isCounted: true }));
    };
    return Promise.resolve({
      settings: { 'stream MiB': sizeBytes / 2 ** 20, message: '1 MiB, random' },
      contenders: [
        {
          name: OURS,
          role: 'ours',
          payloadBytes: sizeBytes,
          async prepare() {
            await removeFile(keyFile);
            await perform(product.hvdr('psk', 'generate', '--out', keyFile));
          },
          serve: (services) => start(services, 'transport-channel', keyFile),
          commands: () => [
            product.helper('transport-channel', 'source', keyFile, String(port), String(sizeBytes)),
          ],
        },
        {
          name: PEER,
          role: 'peer',
          payloadBytes: sizeBytes,
          serve: (services) => start(services, 'transport-plain'),
          commands: () => [
            product.helper('transport-plain', 'source', String(port), String(sizeBytes)),
          ],
        },
      ],
      goals: [cpuGoal(OURS, PEER, 1.6)],
    });
  },
};
