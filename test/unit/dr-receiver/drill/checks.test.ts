// Checks of a VM that came up, against a hypervisor whose answers are scripted and a clock that stands
// still until it is moved.

import { expect } from 'chai';
import fc from 'fast-check';
import {
  type Check,
  checkName,
  parseChecks,
} from '../../../../dr-receiver/failover/drill/check-list.js';
import {
  type CheckOptions,
  type CheckResult,
  type CheckSeams,
  isPassed,
  runChecks,
} from '../../../../dr-receiver/failover/drill/checks.js';
import { guid } from '../../../../shared/bytes/index.js';
import { DrError } from '../../../../shared/errors.js';
import type { Heartbeat, VmAdapter, VmDefinition } from '../../../../shared/hypervisor/index.js';
import type { ScriptRun } from '../../../../shared/probe/index.js';
import { FakeClock } from '../../../support/fake-clock.js';
import { MemoryFileSystem } from '../../../support/memory-file.js';
import { refusal } from '../../../support/refusal.js';

const vmId = guid('01234567-89ab-4def-8123-456789abcdef');
const adapterId = guid('aaaaaaaa-89ab-4def-8123-456789abcdef');
const vm = { vmId, adapters: [{ adapterId, addresses: ['192.0.2.10/24'] }] };

class World {
  readonly clock = new FakeClock();
  readonly fs = new MemoryFileSystem();
  heartbeat: () => Promise<Heartbeat> = () => Promise.resolve('ok');
  addresses: () => readonly string[] = () => ['192.0.2.10/24'];
  switchName: string | undefined = 'Open';
  canSetGuestAddress = true;
  canReachGuests = true;
  connect: CheckSeams['connect'] = () => Promise.resolve();
  script: (run: ScriptRun) => Awaited<ReturnType<CheckSeams['runScript']>> = () => ({
    ...{ exitCode: 0, isTimedOut: false, output: '' },
  });
  readonly scripts: ScriptRun[] = [];

  get seams(): CheckSeams {
    return {
      host: {
        heartbeat: () => this.heartbeat(),
        describeVm: () => Promise.resolve(this.#definition),
        listSwitches: () =>
          Promise.resolve([
            { name: 'Open', isPrivate: false },
            { name: 'Bubble', isPrivate: true },
          ]),
        targetCapabilities: {
          canMergeLive: false,
          canSetGuestAddress: this.canSetGuestAddress,
          canReachGuests: this.canReachGuests,
        },
      },
      ...{ clock: this.clock, fs: this.fs, connect: (to, signal) => this.connect(to, signal) },
      runScript: (run) => {
        this.scripts.push(run);
        return Promise.resolve(this.script(run));
      },
    };
  }

  get #definition(): VmDefinition {
    const guest = { isDhcp: false, addresses: this.addresses(), gateways: [], dnsServers: [] };
    const adapter: VmAdapter = {
      ...{ id: adapterId, name: 'LAN', mac: '00155D000001', isMacStatic: true },
      ...{ switchName: this.switchName, vlan: undefined, guest },
    };
    return {
      ...{ id: vmId, name: 'SQL01-test', generation: 2, cpuCount: 1, memoryBytes: 1 << 30 },
      ...{ isAutoStart: false, disks: [], adapters: [adapter] },
    };
  }

  /** Runs the checks while the clock goes on, second by second. */
  async run(text: string, options: Partial<CheckOptions> = {}): Promise<readonly CheckResult[]> {
    const over = { count: 0 };
    const running = runChecks(vm, parseChecks(text), this.seams, {
      ...{ bootTimeoutMs: 60_000, checkTimeoutMs: 10_000, scriptFolder: '/scripts' },
      context: { kind: 'test', vm: 'SQL01', site: 'target', ipMap: {}, operationId: 'x' },
      ...options,
    }).finally(() => {
      over.count++;
    });
    running.catch(() => undefined);
    for (let second = 0; second < 1000 && over.count === 0; second++)
      await this.clock.advance(1000);
    return running;
  }

  async one(text: string, options: Partial<CheckOptions> = {}): Promise<CheckResult> {
    const [result] = await this.run(text, options);
    if (result === undefined) throw new Error('there was no check');
    return result;
  }
}

describe('list of checks', () => {
  it('reads what it says', () => {
    expect(parseChecks('')).to.deep.equal([]);
    expect(
      parseChecks('heartbeat, address,tcp:443,tcp:[::1]:80,script:probe.sh -q fast'),
    ).to.deep.equal([
      { kind: 'heartbeat' },
      { kind: 'address' },
      { kind: 'tcp', host: undefined, port: 443 },
      { kind: 'tcp', host: '::1', port: 80 },
      { kind: 'script', name: 'probe.sh', args: ['-q', 'fast'] },
    ]);
  });

  it('comes back from the name of each check', () => {
    const host = fc.constantFrom(undefined, 'db.example', '192.0.2.1', '2001:db8::1');
    const word = fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9._-]{0,20}$/);
    const check: fc.Arbitrary<Check> = fc.oneof(
      fc.record({
        kind: fc.constant('tcp' as const),
        host,
        port: fc.integer({ min: 1, max: 65_535 }),
      }),
      fc.record({
        kind: fc.constant('script' as const),
        name: word,
        args: fc.array(word, { maxLength: 4 }),
      }),
    );
    fc.assert(
      fc.property(check, (one) => {
        expect(parseChecks(checkName(one))).to.deep.equal([one]);
      }),
    );
  });

  const illegal = [
    ...['ping', 'tcp:', 'tcp:0', 'tcp:65536', 'tcp:a b:1', 'tcp:::1:80', 'tcp:[x]:80', 'script:'],
    ...['script:../x', 'script:/bin/sh', 'script:a/b', 'script:.x', 'script:-x', 'heartbeat,'],
    ...['heartbeat,heartbeat', Array.from({ length: 33 }, (_, i) => `tcp:${i + 1}`).join(',')],
  ];
  for (const text of illegal) {
    it(`refuses ${text.slice(0, 30)}`, async () => {
      expect((await refusal(() => Promise.resolve().then(() => parseChecks(text)))).code).to.equal(
        'E_PARAMETER',
      );
    });
  }
});

describe('check of the heartbeat', () => {
  it('passes as soon as the guest is up', async () => {
    const world = new World();
    world.heartbeat = () => Promise.resolve(world.clock.monotonic() < 30_000 ? 'absent' : 'ok');
    const result = await world.one('heartbeat');
    expect(result).to.include({ outcome: 'passed', durationMs: 30_000, deadlineMs: 60_000 });
  });

  it('fails at its deadline, also when the hypervisor fails or never answers', async () => {
    const world = new World();
    const answers: readonly (readonly [() => Promise<Heartbeat>, string])[] = [
      [() => Promise.resolve('absent'), 'no sign of life'],
      [() => Promise.reject(new DrError('E_HYPERVISOR', 'WMI is down')), 'WMI is down'],
      [() => new Promise(() => undefined), 'no answer at all'],
    ];
    for (const [heartbeat, words] of answers) {
      world.heartbeat = heartbeat;
      const result = await world.one('heartbeat');
      expect(result).to.include({ outcome: 'failed', durationMs: 60_000 });
      expect(result.words).to.contain('not within 60 s').and.to.contain(words);
    }
  });

  it('fails at once when the VM has gone', async () => {
    const world = new World();
    world.heartbeat = () => Promise.reject(new DrError('E_NOT_FOUND', 'no such VM'));
    expect(await world.one('heartbeat')).to.include({ outcome: 'failed', durationMs: 0 });
  });
});

describe('check of the address', () => {
  it('waits for the planned address, however it is written', async () => {
    const world = new World();
    world.addresses = () => (world.clock.monotonic() < 4000 ? [] : ['192.0.2.10/24']);
    expect(await world.one('address')).to.include({ outcome: 'passed', durationMs: 4000 });
  });

  it('fails with what the guest has instead', async () => {
    const world = new World();
    world.addresses = () => ['169.254.1.1/16'];
    const { outcome, words } = await world.one('address');
    expect(outcome).to.equal('failed');
    expect(words).to.contain('LAN should have 192.0.2.10/24 and has 169.254.1.1');
  });

  it('proves nothing where the hypervisor tells no addresses', async () => {
    const world = new World();
    world.canSetGuestAddress = false;
    const results = await world.run('address');
    expect(results[0]?.outcome).to.equal('skipped');
    expect(isPassed(results)).to.equal(true);
  });
});

describe('check of a port', () => {
  it('asks the address of the guest until it answers', async () => {
    const world = new World();
    const asked: string[] = [];
    world.connect = ({ host, port }) => {
      asked.push(`${host}:${port}`);
      return asked.length < 3 ? Promise.reject(new Error('ECONNREFUSED')) : Promise.resolve();
    };
    const result = await world.one('tcp:443');
    expect(result).to.include({ outcome: 'passed', durationMs: 2000 });
    expect(asked).to.deep.equal(Array.from({ length: 3 }, () => '192.0.2.10:443'));
  });

  it('fails at its deadline when nothing ever answers', async () => {
    const world = new World();
    world.connect = (_to, signal) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          reject(new Error('no answer'));
        });
      });
    const result = await world.one('tcp:443');
    expect(result).to.include({ outcome: 'failed', durationMs: 10_000 });
    expect(result.words).to.contain('192.0.2.10:443 took no connection: no answer');
  });

  it('never reaches into a bubble, nor from a host without a network', async () => {
    for (const change of [
      { switchName: 'Bubble' },
      { switchName: undefined },
      { canReachGuests: false },
    ]) {
      const world = Object.assign(new World(), change);
      world.connect = () => {
        throw new Error('was asked');
      };
      const result = await world.one('tcp:443');
      expect(result).to.include({ outcome: 'failed', durationMs: 0 });
      expect(result.words).to.match(/^not reachable from here: /);
    }
  });

  it('asks the address that it names, wherever the guest is', async () => {
    const world = Object.assign(new World(), { canReachGuests: false });
    world.connect = ({ host, port }) => {
      expect([host, port]).to.deep.equal(['::1', 8443]);
      return Promise.resolve();
    };
    expect(await world.one('tcp:[::1]:8443')).to.include({ outcome: 'passed' });
  });
});

describe('check by a script', () => {
  it('passes with exit code 0 and hands over words, arguments and context', async () => {
    const world = new World();
    world.fs.put('/scripts/probe.sh', Buffer.from(''));
    world.script = () => ({ exitCode: 0, isTimedOut: false, output: '42 rows' });
    const result = await world.one('script:probe.sh -q');
    expect(result).to.include({ outcome: 'passed', words: 'exit code 0: 42 rows' });
    expect(world.scripts[0]).to.deep.include({
      file: '/scripts/probe.sh',
      args: ['-q'],
      context: { kind: 'test', vm: 'SQL01', site: 'target', ipMap: {}, operationId: 'x' },
      timeoutMs: 10_000,
    });
  });

  it('fails with any other end, and when there is no such script', async () => {
    const world = new World();
    world.fs.put('/scripts/probe.sh', Buffer.from(''));
    const ends = [
      { exitCode: 3, isTimedOut: false, output: 'no rows' },
      { exitCode: undefined, isTimedOut: true, output: '' },
      { exitCode: undefined, isTimedOut: false, output: 'it could not be started: EACCES' },
    ];
    for (const end of ends) {
      world.script = () => end;
      expect((await world.one('script:probe.sh')).outcome).to.equal('failed');
    }
    expect((await world.one('script:other.sh')).words).to.contain('there is no script other.sh');
    const without = await world.one('script:probe.sh', { scriptFolder: undefined });
    expect(without.words).to.contain('no script folder');
  });
});

describe('checks together', () => {
  it('are all made, and one that failed makes the whole fail', async () => {
    const world = new World();
    world.heartbeat = () => Promise.resolve('absent');
    const told: string[] = [];
    const results = await world.run('heartbeat,address,tcp:443', {
      onResult: ({ check }) => told.push(check),
    });
    expect(results.map(({ outcome }) => outcome)).to.deep.equal(['failed', 'passed', 'passed']);
    expect(told).to.deep.equal(['heartbeat', 'address', 'tcp:443']);
    expect(isPassed(results)).to.equal(false);
    expect(isPassed(results.slice(1))).to.equal(true);
  });

  it('end with the reason of whoever stops them', async () => {
    const world = new World();
    const stop = new AbortController();
    world.heartbeat = () => {
      if (world.clock.monotonic() >= 5000) stop.abort(new DrError('E_LOCKED', 'failover begins'));
      return Promise.resolve('absent');
    };
    const { code } = await refusal(() => world.run('heartbeat,address', { signal: stop.signal }));
    expect(code).to.equal('E_LOCKED');
    expect(world.clock.monotonic()).to.be.below(8000);
    expect(world.clock.sleeperCount).to.equal(0);
  });
});
