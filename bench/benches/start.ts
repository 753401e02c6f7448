// What every command pays before it does anything.

import { type Bench, MIB } from '../bench.js';

const OURS = 'hvdr --version';
const LIMIT = 'node -e 0';

export const start: Bench = {
  name: 'start',
  question: 'The launcher starts the product, which prints its version; against an empty Node.',
  spaceBytes: MIB,
  programs: ['node'],
  rounds: 15,
  prepare: ({ product }) =>
    Promise.resolve({
      settings: { launcher: product.entry.endsWith('.js') ? 'none' : 'bin/hvdr' },
      contenders: [
        {
          name: OURS,
          role: 'ours',
          payloadBytes: 0,
          commands: () => [product.hvdr('--version')],
        },
        {
          name: LIMIT,
          role: 'limit',
          payloadBytes: 0,
          commands: () => [{ program: 'node', arguments: ['-e', '0'] }],
        },
      ],
      goals: [
        {
          text: 'time to the version',
          unit: 's',
          bound: 'at most',
          value: 0.3,
          figure: (medianOf) => medianOf(OURS).wallSeconds,
        },
      ],
    }),
};
