import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { type Clock, systemClock } from '../../../../shared/clock.js';
import { DrError } from '../../../../shared/errors.js';
import type { Fields } from '../../../../shared/hypervisor/fields.js';
import {
  PowerShellHost,
  scriptsFolder,
  windowsPowerShell,
} from '../../../../shared/hypervisor/hyperv/powershell/host.js';
import type {
  Arguments,
  Operation,
} from '../../../../shared/hypervisor/hyperv/powershell/operation.js';
import { openLog, type Log } from '../../../../shared/log.js';
import { WorkFolder } from '../../../support/work-folder.js';

const BUILT = new URL('../../../../', import.meta.url);
const SCRIPTS = fileURLToPath(new URL('../shared/hypervisor/hyperv/powershell/scripts', BUILT));
const DOUBLE = fileURLToPath(new URL('../../../support/powershell-double.js', import.meta.url));

/** Long enough for a busy machine, when an answer is expected. */
const SOON_MS = 60_000;

const operation = <R>(
  name: string,
  read: (fields: Fields) => R,
  timeoutMs = SOON_MS,
): Operation<Arguments, R> => ({ name, timeoutMs, read });

const value = (fields: Fields): string => fields.string('value');

describe('the PowerShell host', () => {
  const folder = new WorkFolder('powershell');
  let number = 0;
  let host: PowerShellHost | undefined;
  let lines: string[] = [];
  let log: Log;

  let isLater = false;
  const PING_MS = 15_000;
  const clock: Clock = {
    now: () => systemClock.now(),
    monotonic: () => systemClock.monotonic() + (isLater ? 3_600_000 : 0),
    // nobody waits so long for a sign of life here
    sleep: (ms, signal) => systemClock.sleep(ms === PING_MS ? 100 : ms, signal),
  };

  const start = (fault = 'none'): PowerShellHost => {
    number += 1;
    const args = [DOUBLE, folder.file(`starts-${number}`), fault];
    const program = { program: process.execPath, args, environment: {} };
    host = new PowerShellHost({ program, clock, log, pauseMs: 20 });
    return host;
  };

  /** The error of an operation that must fail. */
  const refusal = async (running: Promise<unknown>): Promise<DrError> => {
    const error: unknown = await running.then(
      () => undefined,
      (reason: unknown) => reason,
    );
    if (error instanceof DrError) return error;
    throw new Error('no DrError', { cause: error });
  };

  const starts = (from: PowerShellHost): Promise<string> =>
    from.run(operation('double.starts', value), {});

  beforeEach(async () => {
    isLater = false;
    lines = [];
    const destination = { write: (line: string) => lines.push(line) };
    log = await openLog({ destination, level: 'debug', clock: systemClock });
  });
  afterEach(async () => {
    await host?.close();
    host = undefined;
  });
  after(() => folder.dispose());

  const hostLost = (): string[] => lines.filter((line) => line.includes('hypervisor.host-lost'));

  it('carries any text there and back, and stays one process', async () => {
    const echo = start();
    const text = 'Zürich ☂ "\\\n\r\u0000$(Get-VM)`; \'';
    const read = operation('double.echo', (fields) => fields.string('text'));
    expect(await echo.run(read, { text })).to.equal(text);
    expect(await echo.run(read, { text: 'again' })).to.equal('again');
    expect(await starts(echo)).to.equal('1');
  });

  it('answers calls that are made at once, each with its own answer', async () => {
    const echo = start();
    const read = operation('double.echo', (fields) => fields.whole('number'));
    const numbers = Array.from({ length: 50 }, (_, index) => index);
    const answers = await Promise.all(numbers.map((item) => echo.run(read, { number: item })));
    expect(answers).to.deep.equal(numbers);
  });

  it('puts lines together that arrive byte by byte', async () => {
    expect(await start().run(operation('double.bytewise', value), {})).to.equal('Zürich ☂');
  });

  it('gives a host up that says nothing for the time limit, and tells that the effect is unknown', async () => {
    const hanging = start();
    const error = await refusal(hanging.run(operation('double.hang', value, 200), {}));
    expect(error.code).to.equal('E_STALLED');
    expect(error.context).to.include({ op: 'double.hang', effect: 'unknown' });
    expect(error.done).to.contain('unknown');
    expect(await starts(hanging)).to.equal('2');
    expect(hostLost()).to.have.length(1);
  });

  for (const [fault, why] of [
    ['double.die', 'exit code 3'],
    ['double.endQuietly', 'exit code 0'],
    ['double.halfLineAndEnd', 'exit code 0'],
    ['double.garbage', 'not base64'],
    ['double.empty', 'not base64'],
    ['double.otherId', 'answered'],
    ['double.giant', 'longer than'],
    ['double.list', 'not an object'],
    ['double.noOk', 'ok of a message'],
  ] as const) {
    it(`replaces a host after ${fault}, and fails that operation alone`, async () => {
      const faulty = start();
      const failing = refusal(faulty.run(operation(fault, value), {}));
      // waits behind the faulty one, and is run by the next host
      const waiting = starts(faulty);
      const error = await failing;
      expect(error.code).to.equal('E_HYPERVISOR');
      expect(error.message).to.contain(why);
      expect(error.context['effect']).to.equal('unknown');
      expect(await waiting).to.equal('2');
    });
  }

  it('gives a host up that stops in the middle of a line', async () => {
    const error = await refusal(start().run(operation('double.halfLine', value, 200), {}));
    expect(error.code).to.equal('E_STALLED');
  });

  it('trusts no host that answers twice', async () => {
    const faulty = start();
    expect(await faulty.run(operation('double.twice', value), {})).to.equal('first');
    expect(await faulty.run(operation('double.echo', value), { value: 'mine' })).to.equal('mine');
    expect(await starts(faulty)).to.equal('2');
  });

  it('refuses an answer in another shape, and keeps the host', async () => {
    const echo = start();
    const error = await refusal(echo.run(operation('double.echo', value), { value: 5 }));
    expect(error.code).to.equal('E_HYPERVISOR');
    expect(error.message).to.contain('value is not a text');
    expect(await starts(echo)).to.equal('1');
  });

  it('asks a host that was idle for a sign of life, and loses no operation in one that hangs', async () => {
    for (const [fault, count] of [
      ['deaf', '2'],
      ['none', '1'],
    ] as const) {
      const idle = start(fault);
      isLater = false;
      await starts(idle);
      isLater = true;
      expect(await starts(idle), fault).to.equal(count);
      await idle.close();
    }
  });

  it('waits for a host that starts slowly', async () => {
    expect(await starts(start('slow'))).to.equal('1');
  });

  it('starts again after a pause when hosts end at once', async () => {
    expect(await starts(start('dead'))).to.equal('3');
  });

  for (const [fault, why] of [
    ['quiet', 'exit code 0'],
    ['wrong', 'not base64'],
    ['old', 'version 0'],
  ] as const) {
    it(`says that PowerShell cannot be used when it starts ${fault}`, async () => {
      const error = await refusal(starts(start(fault)));
      expect(error.code).to.equal('E_HYPERVISOR');
      expect(error.message).to.contain(why);
      expect(error.done).to.contain('not begun');
    });
  }

  it('says so when the program is not there', async () => {
    const program = { program: folder.file('powershell.exe'), args: [], environment: {} };
    host = new PowerShellHost({ program, clock, log, pauseMs: 20 });
    const error = await refusal(starts(host));
    expect(error.message).to.contain('cannot be run');
  });

  it('reads its error output, and logs only the beginning of it', async () => {
    expect(await start('flood').run(operation('double.flood', value), {})).to.equal('after');
    const said = lines.filter((line) => line.includes('hypervisor.host-said')).join('');
    expect(said).to.contain('noise');
    expect(said.length).to.be.lessThan(40_000);
  });

  it('lets what may take long run beside the rest', async () => {
    const both = start();
    const long = both.run(operation('double.hang', value, 3_600_000), {}).catch(() => 'ended');
    expect(await both.run(operation('double.echo', value), { value: 'soon' })).to.equal('soon');
    await both.close();
    expect(await long).to.equal('ended');
  });

  it('begins nothing after it was closed', async () => {
    const closed = start();
    await starts(closed);
    await closed.close();
    const error = await refusal(starts(closed));
    expect(error.done).to.contain('nothing was changed');
    expect(error.message).to.contain('not begun');
  });

  it('logs each call with its verdict, and neither arguments nor answers', async () => {
    const echo = start();
    const args = { returnValue: 32775, path: 'C:\\Clients\\secret.vhdx' };
    await echo.run(
      operation('double.echo', (fields) => fields.whole('returnValue')),
      args,
    );
    const call = lines.filter((line) => line.includes('"hypervisor.call"')).join('');
    expect(call).to.contain('"op":"double.echo"').and.to.contain('"returnValue":32775');
    expect(lines.join('')).to.not.contain('secret');
  });

  describe('maps the failures of scripts', () => {
    const failure = (category: string, fqid: string, cimStatus = ''): Promise<DrError> =>
      refusal(
        start().run(operation('double.failure', value), {
          cimStatus,
          message: 'as Windows words it',
          category,
          fqid,
          hresult: 0x80070005,
        }),
      );

    for (const [category, fqid, code] of [
      ['ObjectNotFound', 'HvdrNotFound', 'E_NOT_FOUND'],
      [
        'InvalidArgument',
        'InvalidParameter,Microsoft.HyperV.PowerShell.Commands.GetVM',
        'E_NOT_FOUND',
      ],
      [
        'InvalidArgument',
        'InvalidParameter,Microsoft.HyperV.PowerShell.Commands.SetVM',
        'E_HYPERVISOR',
      ],
      ['ObjectNotFound', 'CommandNotFoundException', 'E_HYPERVISOR'],
      [
        'PermissionDenied',
        'AccessDenied,Microsoft.HyperV.PowerShell.Commands.GetVM',
        'E_HYPERVISOR',
      ],
    ] as const) {
      it(`${category} ${fqid} to ${code}`, async () => {
        const error = await failure(category, fqid);
        expect(error.code).to.equal(code);
        expect(error.message).to.contain('as Windows words it');
        expect(error.context).to.include({ category, fqid, hresult: '0x80070005' });
        expect(error.context).not.to.have.property('cimStatus');
      });
    }

    it('with what WMI itself said, where it is the one that refused', async () => {
      const fqid = 'HRESULT 0x80041003,Microsoft.Management.Infrastructure.CimCmdlets';
      const { context } = await failure('PermissionDenied', fqid, 'AccessDenied');
      expect(context).to.include({ cimStatus: 'AccessDenied', fqid });
    });
  });

  it('is Windows PowerShell by its absolute path, with nothing of the environment', () => {
    const { program, args, environment } = windowsPowerShell({
      systemRoot: 'D:\\Windows',
      scripts: 'C:\\Program Files\\PodHeitor\\powershell',
      temp: 'C:\\ProgramData\\PodHeitor\\temp',
    });
    expect(program).to.equal('D:\\Windows\\System32\\WindowsPowerShell\\v1.0\\powershell.exe');
    expect(args.slice(-2)).to.deep.equal([
      '-File',
      'C:\\Program Files\\PodHeitor\\powershell\\host.ps1',
    ]);
    expect(args).to.include.members(['-NoProfile', '-NonInteractive', '-InputFormat']);
    expect(environment['PSModulePath']).to.equal(
      'D:\\Windows\\System32\\WindowsPowerShell\\v1.0\\Modules',
    );
    expect(environment['ProgramFiles']).to.equal('D:\\Program Files');
  });

  it('has all its scripts in a folder beside the program', () => {
    const folder = scriptsFolder(fileURLToPath(new URL('programs/main.js', BUILT)));
    const copied = readdirSync(folder).sort();
    expect(copied).to.deep.equal(readdirSync(SCRIPTS).sort());
    for (const name of copied) {
      expect(readFileSync(join(folder, name), 'utf8')).to.equal(
        readFileSync(join(SCRIPTS, name), 'utf8'),
      );
    }
  });
});
