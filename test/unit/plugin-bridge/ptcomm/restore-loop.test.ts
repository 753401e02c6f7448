import { expect } from 'chai';
import { DrError } from '../../../../shared/errors.js';
import { jobLines, type PtcommPeer } from '../../../support/ptcomm-peer.js';
import { idleJob, NotedRestore, ptcommRig } from '../../../support/ptcomm-rig.js';

const FAILED = new DrError('E_IO', 'the volume is gone');

async function restoring(
  work: NotedRestore,
  where = '/tmp/@hyperv/x',
): Promise<{ peer: PtcommPeer; how: () => Promise<string> }> {
  const { peer, ended } = ptcommRig(() =>
    Promise.resolve(idleJob({ restore: () => Promise.resolve(work) })),
  );
  await peer.begin(jobLines('R', `Where=${where}`, 'Replace=a'), []);
  await peer.start('RestoreStart');
  return { peer, how: async () => (await ended).how };
}

describe('a restore over the plugin protocol', () => {
  it('hands on what the volume delivers, the prefix cut off', async () => {
    const work = new NotedRestore({ skipped: 'skip', core: 'core' });
    const { peer, how } = await restoring(work);
    await peer.command('RESTOREOBJ:vm');
    await peer.send('D', 'abc');
    await peer.send('F');
    expect(await peer.answer()).to.equal('C OK');
    expect(await peer.announce('/tmp/@hyperv/x/@hyperv/a/disk')).to.equal('C OK');
    await peer.send('C', 'METADATA_STREAM');
    await peer.send('D', 'm');
    await peer.send('F');
    expect(await peer.answer()).to.equal('C OK');
    expect(await peer.data([Buffer.from('12'), Buffer.from('3')])).to.equal('C OK');
    expect(await peer.announce('/tmp/@hyperv/x/@hyperv/skipped')).to.equal('C SKIP');
    expect(await peer.announce('/tmp/@hyperv/x/@hyperv/core')).to.equal('C CORE');
    expect(await peer.announce('/tmp/@hyperv/x/@hyperv/none', 'E', 0)).to.equal('C OK');
    await peer.command('FINISH');
    expect(await peer.answer()).to.equal('F');
    await peer.end();
    expect(await how()).to.equal('ended');
    expect(work.contents.get('a/disk')?.toString()).to.equal('123');
    expect(work.calls).to.deep.equal([
      'object vm 3',
      'begin file @hyperv a/disk',
      'data a/disk',
      'end a/disk',
      'begin file @hyperv skipped',
      'begin file @hyperv core',
      'begin empty @hyperv none',
      'end none',
      'finish',
    ]);
  });

  it('reads a block to its end before the one answer, whatever the work does', async () => {
    const work = new NotedRestore({ 'data of a': FAILED, 'data of b': 'skip', c: FAILED });
    const { peer, how } = await restoring(work, '');
    const pieces = Array.from({ length: 40 }, () => Buffer.alloc(65_536));
    expect(await peer.announce('/@hyperv/a')).to.equal('C OK');
    expect(await peer.data(pieces)).to.match(/^E E_IO: the volume is gone/);
    expect(await peer.announce('/@hyperv/b')).to.equal('C OK');
    expect(await peer.data(pieces)).to.equal('C OK');
    expect(await peer.announce('/@hyperv/c')).to.match(/^E E_IO/);
    expect(await peer.announce('/etc/passwd')).to.match(/^E E_PARAMETER/);
    await peer.command('FINISH');
    expect(await peer.answer()).to.equal('F');
    await peer.end();
    expect(await how()).to.equal('ended');
  });

  it('is red when the end fails, and abandoned when the plugin goes', async () => {
    const failing = new NotedRestore({ finish: FAILED });
    const red = await restoring(failing, '');
    await red.peer.command('FINISH');
    expect(await red.peer.answer()).to.match(/^A E_IO/);
    await red.peer.end();
    expect(await red.how()).to.equal('failed');
    const left = new NotedRestore();
    const gone = await restoring(left, '');
    await gone.peer.announce('/@hyperv/a');
    await gone.peer.command('DATA');
    await gone.peer.send('D', 'x');
    gone.peer.close();
    expect(await gone.how()).to.equal('gone');
    expect(left.calls.at(-1)).to.equal('abandon');
  });
});
