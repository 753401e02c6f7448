// `npm run fault-matrix`: tries every fault at every durable step, and writes docs/fault-matrix.md.

import { fillMatrix, PASSES, rehearse } from './matrix.js';
import { Matrix, writePage } from './page.js';
import { stepName } from './faults.js';

const matrix = new Matrix();
const places = await rehearse();
for (const pass of PASSES) {
  await fillMatrix(matrix, places, pass, (step, left) => {
    process.stdout.write(`${pass} call, ${left} steps left: ${stepName(step)}\n`);
  });
  matrix.passes.push(`the ${pass} one`);
  writePage(matrix);
  process.stdout.write(`${matrix.injectionCount} injections; docs/fault-matrix.md is written\n`);
}
