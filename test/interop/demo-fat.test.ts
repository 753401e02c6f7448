// The demo's own FAT16 writer, read by 7-Zip.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { fat16Image } from '../../cli/demo-fat.js';
import { demoFiles, IMAGE_BYTES } from '../../cli/demo-image.js';
import { needTool } from '../support/need.js';

describe('demo: FAT16 image', () => {
  it('holds every file to the byte, as 7-Zip reads it', function () {
    needTool(this, '7zz');
    const folder = mkdtempSync(join(tmpdir(), 'hvdr-fat-'));
    try {
      const image = Buffer.alloc(IMAGE_BYTES);
      const files = demoFiles(2);
      for (const { offset, bytes } of fat16Image(IMAGE_BYTES, files)) image.set(bytes, offset);
      writeFileSync(join(folder, 'disk.img'), image);
      for (const { name, bytes } of files) {
        const run = spawnSync('7zz', ['x', '-so', '-tFAT', 'disk.img', name], {
          cwd: folder,
          maxBuffer: IMAGE_BYTES,
        });
        expect(run.status, run.stderr.toString()).to.equal(0);
        expect(run.stdout.equals(bytes), name).to.equal(true);
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
