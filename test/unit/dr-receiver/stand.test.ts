// A receiver that cannot begin: what was opened for it is closed again.

import { writeFileSync } from 'node:fs';
import { expect } from 'chai';
import { receiverSettings, standReceiver } from '../../../dr-receiver/index.js';
import { systemClock, systemRandom } from '../../../shared/clock.js';
import { nodeFileSystem } from '../../../shared/files/index.js';
import { Lab } from '../../../shared/hypervisor/lab/index.js';
import { silentLog } from '../../../shared/log.js';
import { runHvdr } from '../../support/cli.js';
import { refusal } from '../../support/refusal.js';
import { WorkFolder } from '../../support/work-folder.js';

describe('a receiver that cannot begin', () => {
  it('closes the hypervisor that was opened for it', async () => {
    const work = new WorkFolder('stand');
    try {
      const key = work.file('source.psk');
      await runHvdr(['psk', 'generate', '--out', key, '--principal', 'primary']);
      const seams = { fs: nodeFileSystem, clock: systemClock, random: systemRandom };
      const host = await Lab.create(work.file('lab'), seams);
      let closed = 0;
      const close = host.close.bind(host);
      host.close = () => {
        closed++;
        return close();
      };
      writeFileSync(work.file('store'), 'no folder');
      const settings = receiverSettings({ listen: '127.0.0.1:0' }, String);
      const places = { store: work.file('store'), keys: [key] };
      const surroundings = {
        ...{ files: nodeFileSystem, clock: systemClock, random: systemRandom },
        ...{ environment: {}, folder: work.path },
        log: () => Promise.resolve(silentLog),
        keepSecrets: () => Promise.resolve(),
      };
      const error = await refusal(() =>
        standReceiver(settings, places, surroundings, {
          signal: AbortSignal.abort(),
          programVersion: '0',
          openHost: () => Promise.resolve(host),
          onListening: () => {
            throw new Error('it serves');
          },
        }),
      );
      expect(error.message).to.contain(work.file('store'));
      expect(closed).to.equal(1);
    } finally {
      work.dispose();
    }
  });
});
