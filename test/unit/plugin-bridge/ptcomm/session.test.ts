import { expect } from 'chai';
import type { BackupItems } from '../../../../plugin-bridge/ptcomm/backup-items.js';
import { DrError } from '../../../../shared/errors.js';
import { FakeClock } from '../../../support/fake-clock.js';
import { type Chunking, jobLines } from '../../../support/ptcomm-peer.js';
import {
  idleJob,
  type PtcommRig,
  ptcommRig,
  type RigOptions,
} from '../../../support/ptcomm-rig.js';
import { SeededRandom } from '../../../support/seeded-random.js';

const BACKUP = jobLines('B', 'Level=F');
const random = new SeededRandom(7);
const CHUNKINGS: Readonly<Record<string, Chunking>> = {
  'in whole packets': 'whole',
  'byte by byte': 'bytes',
  'in random pieces': { random: () => (random.next() % 1000) / 1000 },
};

async function* pieces(...texts: readonly string[]): AsyncGenerator<Buffer> {
  for (const text of texts) {
    await Promise.resolve();
    yield Buffer.from(text);
  }
}

const entry = (path: string, sizeBytes = 1) => ({
  path,
  sizeBytes,
  modifiedAtMs: 1_795_444_060_000,
});

function backupRig(
  backup: (sink: BackupItems) => Promise<void>,
  options: RigOptions = {},
): PtcommRig {
  return ptcommRig(() => Promise.resolve(idleJob({ backup })), options);
}

describe('a backup over the plugin protocol', () => {
  for (const [name, chunking] of Object.entries(CHUNKINGS)) {
    it(`is whole when the plugin writes ${name}`, async () => {
      const { peer, ended } = backupRig(
        async (sink) => {
          await sink.restoreObject('vm', Buffer.from('object'));
          await sink.pluginObject({
            path: 'SQL01',
            name: 'SQL01',
            category: 'Virtual Machine',
            type: 'Hyper-V',
            status: 'OK',
          });
          await sink.file(entry('SQL01/config/vm.json', 12), pieces('{"a":', '"b"}'));
          await sink.file(entry('SQL01/disks/empty', 0), pieces());
          await sink.file(entry('SQL01/'), pieces());
        },
        { chunking },
      );
      await peer.begin(BACKUP, ['vm=SQL*', 'mode']);
      await peer.start('BackupStart');
      const items = await peer.takeItems();
      await peer.end();
      expect(await ended).to.deep.equal({ how: 'ended' });
      expect(items.map(({ name: of }) => of)).to.deep.equal([
        'vm',
        '/@hyperv/SQL01',
        '/@hyperv/SQL01/config/vm.json',
        '/@hyperv/SQL01/disks/empty',
        '/@hyperv/SQL01/',
      ]);
      expect(items[1]).to.deep.include({
        lines: [
          'PLUGINOBJ_NAME:SQL01',
          'PLUGINOBJ_CAT:Virtual Machine',
          'PLUGINOBJ_TYPE:Hyper-V',
          'PLUGINOBJ_STATUS:OK',
        ],
      });
      expect(items[2]).to.deep.include({
        type: 'F',
        hasData: true,
        content: Buffer.from('{"a":"b"}'),
      });
      expect(items[3]).to.deep.include({ type: 'E', hasData: false });
      expect(items[4]).to.deep.include({ type: 'D', hasData: false });
    });
  }

  it('has no plugin object for an adapter that cannot store one, and no status before 15.0', async () => {
    const sendObject = (sink: BackupItems): Promise<void> =>
      sink.pluginObject({ path: 'a', name: 'a', category: 'c', type: 't', status: 'OK' });
    const own = backupRig(sendObject);
    await own.peer.begin(BACKUP, [], '4');
    await own.peer.start('BackupStart');
    expect(await own.peer.takeItems()).to.deep.equal([]);
    const before15 = backupRig(sendObject);
    await before15.peer.begin(
      BACKUP.filter((line) => !line.startsWith('WorkingDir')),
      [],
    );
    await before15.peer.start('BackupStart');
    const [object] = await before15.peer.takeItems();
    expect(object).to.deep.include({ is: 'plugin object' });
    expect(JSON.stringify(object)).not.to.contain('STATUS');
  });

  it('marks a file cut short when its source fails after the first bytes, and goes on', async () => {
    const { peer, ended } = backupRig(async (sink) => {
      const failing = async function* (): AsyncGenerator<Buffer> {
        yield Buffer.alloc(300_000, 1);
        await Promise.resolve();
        throw new DrError('E_IO', 'the disk went away');
      };
      await sink.file(entry('a'), failing()).catch(() => undefined);
      await sink.file(entry('b'), pieces('whole'));
    });
    await peer.begin(BACKUP, []);
    await peer.start('BackupStart');
    const items = await peer.takeItems();
    await peer.end();
    expect((await ended).how).to.equal('ended');
    expect(items[0]).to.deep.include({ isCutShort: true, bytes: 300_000 });
    expect(items[1]).to.deep.include({ isCutShort: false, content: Buffer.from('whole') });
  });

  it('stores a file without data when its source fails before the first byte, with an error of the job', async () => {
    const { peer } = backupRig(async (sink) => {
      const failing = async function* (): AsyncGenerator<Buffer> {
        await Promise.resolve();
        if (sink.files >= 0) throw new DrError('E_IO', 'the disk went away');
        yield Buffer.alloc(1);
      };
      await sink.file(entry('a'), failing()).catch(() => undefined);
    });
    await peer.begin(BACKUP, []);
    await peer.start('BackupStart');
    const items = await peer.takeItems();
    expect(items[0]).to.deep.include({ hasData: false, isCutShort: false, type: 'E' });
    expect(peer.messages).to.deep.equal(['Q /@hyperv/a: the disk went away']);
  });

  it('makes the job red when the work fails, and still answers END', async () => {
    const { peer, ended } = backupRig(() =>
      Promise.reject(new DrError('E_NO_MATCH', 'no VM matches SQL*')),
    );
    await peer.begin(BACKUP, []);
    await peer.start('BackupStart');
    expect(await peer.expect('A')).to.match(/^E_NO_MATCH: no VM matches SQL\*;/);
    await peer.end();
    expect((await ended).how).to.equal('failed');
  });

  it('tells a bug of ours as E_INTERNAL', async () => {
    const { peer } = backupRig(() => Promise.reject(new TypeError('x is not a function')));
    await peer.begin(BACKUP, []);
    await peer.start('BackupStart');
    expect(await peer.expect('A')).to.match(/^E_INTERNAL: x is not a function/);
  });

  it('breaks a long silence with a sign of life', async () => {
    const clock = new FakeClock();
    let finish: () => void = () => undefined;
    const { peer } = backupRig(() => new Promise<void>((resolve) => (finish = resolve)), { clock });
    await peer.begin(BACKUP, []);
    await peer.start('BackupStart');
    await clock.advance(3 * 60_000);
    await clock.advance(7 * 60_000);
    finish();
    expect(await peer.takeItems()).to.deep.equal([]);
    expect(peer.messages).to.deep.equal([
      'I the job is still at work',
      'I the job is still at work',
    ]);
  });

  it('keeps messages on one line and short', async () => {
    const { peer } = backupRig((sink) => {
      sink.say('warning', `two\nlines \u202e and ${'é'.repeat(2000)}`);
      return Promise.resolve();
    });
    await peer.begin(BACKUP, []);
    await peer.start('BackupStart');
    await peer.takeItems();
    expect(peer.messages[0]).to.match(/^W two lines {3}and é+…$/);
    expect(Buffer.byteLength(peer.messages[0] ?? '')).to.be.lessThan(1600);
  });
});

describe('a session of the plugin protocol', () => {
  const GREETINGS = [
    'Hello other-plugin 3',
    'Hello podheitor-hyperv 2',
    'Hello podheitor-hyperv',
    'Hello __proto__ 3',
    'Job',
  ];
  for (const greeting of GREETINGS) {
    it(`is refused with an A when it begins with ${greeting}`, async () => {
      const { peer } = backupRig(() => Promise.resolve());
      await peer.command(greeting);
      expect(await peer.expect('A')).to.match(/^E_(VERSION|PROTOCOL): /);
    });
  }

  it('takes jobs without an answer to know: unknown keys, an empty Where, a key twice, no newline', async () => {
    const { peer, ended } = ptcommRig(({ job, parameters }) => {
      expect(job).to.deep.equal({
        name: 'second',
        jobId: 0,
        type: 'E',
        level: undefined,
        sinceSeconds: undefined,
        prevJobName: '',
        where: '',
        regexWhere: '',
        replace: undefined,
        namespace: '',
        isAccurate: true,
        workingFolder: undefined,
      });
      expect(parameters.given.map(({ key, value }) => [key, value])).to.deep.equal([
        ['vm', 'a=b'],
        ['online', '1'],
        ['exclude', ''],
      ]);
      expect(parameters.query).to.equal('vm');
      return Promise.resolve(idleJob());
    });
    await peer.send('C', 'Hello podheitor-hyperv 3');
    await peer.expect('C');
    const lines = ['Job', 'Name=first', 'Name=second', 'JobID=0', 'Type=E', 'Where=', 'New=thing'];
    for (const line of lines) await peer.send('C', line);
    await peer.send('F');
    await peer.expect('F');
    await peer.block('Params', [
      'vm=a=b',
      'online',
      'exclude=',
      'query=vm',
      'query=vm',
      'Accurate=1',
    ]);
    await peer.expect('F');
    await peer.start('QueryStart');
    await peer.expect('F');
    await peer.send('T');
    expect((await ended).how).to.equal('ended');
  });

  it('may end before a start', async () => {
    const { peer, ended } = backupRig(() => Promise.resolve());
    await peer.begin(BACKUP, []);
    await peer.end();
    expect((await ended).how).to.equal('ended');
  });

  it('ends without a word when it is cancelled while the plugin does not read', async () => {
    let why: unknown;
    const rig = backupRig(async (sink) => {
      const endless = async function* (): AsyncGenerator<Buffer> {
        for (;;) {
          await Promise.resolve();
          yield Buffer.alloc(300_000);
        }
      };
      await sink.file(entry('a'), endless()).catch((error: unknown) => {
        why = error;
        throw error;
      });
    });
    const { peer, ended } = rig;
    await peer.begin(BACKUP, []);
    await peer.start('BackupStart');
    await peer.expect('C');
    rig.cancel();
    expect((await ended).how).to.equal('gone');
    expect(why).to.be.instanceOf(DrError);
    await peer.untilEnd();
    expect(peer.letters).not.to.match(/[AEQ]/);
  });

  it('ends when the plugin closes the pipe, wherever it is', async () => {
    const steps: readonly ((rig: PtcommRig) => Promise<unknown>)[] = [
      ({ peer }) => peer.hello(),
      ({ peer }) => peer.block('Job', BACKUP),
      ({ peer }) => peer.expect('F'),
      ({ peer }) => peer.block('Params', []),
      ({ peer }) => peer.expect('F'),
      ({ peer }) => peer.start('BackupStart'),
      ({ peer }) => peer.takeItem(),
    ];
    for (let count = 0; count <= steps.length; count++) {
      const rig = backupRig(async (sink) => {
        await sink.file(entry('a'), pieces('x'));
        await new Promise<void>((_resolve, reject) => {
          sink.signal.addEventListener('abort', () => {
            reject(new Error('given up'));
          });
        });
      });
      for (const step of steps.slice(0, count)) await step(rig);
      rig.peer.close();
      expect((await rig.ended).how, `after ${count} steps`).to.equal('gone');
    }
  });

  const HOSTILE: Readonly<Record<string, string>> = {
    'a letter that does not exist': 'Z000000\n',
    'a small letter': 'c000003\nJob',
    'a length that is no number': 'C0000x3\nJob',
    'a negative length': 'C-00003\nJob',
    'a length in hexadecimal': 'C0x0003\nJob',
    'a header without a newline': 'C000003 Job',
    'an F with a payload': 'F000003\nabc',
    'a T with a payload': 'T000003\nabc',
    'bytes of zero': '\0'.repeat(64),
    'an HTTP request': 'GET / HTTP/1.1\r\nHost: x\r\n\r\n',
    'data instead of a command': 'D000003\nabc',
    'an error instead of a command': 'E000003\nabc',
    'a message instead of a command': 'I000003\nabc',
    'another block': 'C000007\nParams\n',
    'an empty command': 'C000001\n\n',
    'a command of two lines': 'C000009\nJob\nName=',
    'a command with a zero byte': 'C000005\nJo\0b\n',
    'a command that is too long': `C999999\n${'x'.repeat(999_999)}`,
    'a block without end': `C000004\nJob\n${'C000004\na=b\n'.repeat(1100)}`,
    'a job without a name': 'C000004\nJob\nC000007\nJobID=1C000006\nType=BF000000\n',
    'a job number that is none':
      'C000004\nJob\nC000006\nName=aC000008\nJobID=1eC000006\nType=BF000000\n',
    'a type that does not exist':
      'C000004\nJob\nC000006\nName=aC000007\nJobID=1C000006\nType=VF000000\n',
  };
  for (const [what, bytes] of Object.entries(HOSTILE)) {
    it(`makes the job red and ends after ${what}`, async () => {
      const { peer, ended } = backupRig(() => Promise.resolve());
      await peer.hello();
      await peer.raw(bytes);
      expect(await peer.expect('A')).to.match(/^E_PROTOCOL: /);
      const { how } = await ended;
      expect(how).to.equal('broken');
    });
  }
});
