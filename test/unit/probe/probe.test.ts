// Real sockets and real scripts on this machine: what ends them, what they are told, what they can see.

import { chmodSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { expect } from 'chai';
import { systemClock } from '../../../shared/clock.js';
import { nodeFileSystem } from '../../../shared/files/index.js';
import { connectTcp, findScript, runScript, type ScriptEnd } from '../../../shared/probe/index.js';
import { commandOf, environmentOf } from '../../../shared/probe/run-script.js';
import { refusal } from '../../support/refusal.js';
import { WorkFolder } from '../../support/work-folder.js';

describe('TCP probe', () => {
  let server: Server;
  let port = 0;

  before((done) => {
    server = createServer((socket) => socket.end()).listen(0, '127.0.0.1', () => {
      const address = server.address();
      port = typeof address === 'object' && address !== null ? address.port : 0;
      done();
    });
  });
  after((done) => {
    server.close(done);
  });

  const failure = async (work: Promise<void>): Promise<string> =>
    work.then(
      () => 'none',
      (error: unknown) => String(error),
    );

  it('finds an open port, and none where nobody listens', async () => {
    const { signal } = new AbortController();
    await connectTcp({ host: '127.0.0.1', port }, signal);
    const closed = await failure(connectTcp({ host: '127.0.0.1', port: 1 }, signal));
    expect(closed).to.contain('ECONNREFUSED');
  });

  it('ends with the reason of its signal', async () => {
    const stop = new AbortController();
    stop.abort(new Error('over'));
    expect(await failure(connectTcp({ host: '127.0.0.1', port }, stop.signal))).to.contain('over');
  });
});

describe('script', function () {
  let work: WorkFolder;
  const context = {
    ...{ kind: 'test' as const, vm: '$(id)', site: 'target' as const, ipMap: { a: 'b' } },
    ...{ point: 'p', operationId: 'o' },
  };

  before(function () {
    if (process.platform === 'win32') this.skip();
    work = new WorkFolder('probe');
  });
  after(() => {
    work.dispose();
  });

  const put = (name: string, text: string, mode = 0o755): string => {
    writeFileSync(work.file(name), text);
    chmodSync(work.file(name), mode);
    return work.file(name);
  };
  const run = (
    file: string,
    options: { args?: string[]; timeoutMs?: number; signal?: AbortSignal } = {},
  ): Promise<ScriptEnd> =>
    runScript({ file, args: [], context, timeoutMs: 20_000, clock: systemClock, ...options });

  it('gets its context as one line of JSON, its arguments as they are, and nothing of our environment', async () => {
    process.env['HVDR_CANARY'] = 'canary';
    const file = put('told.sh', '#!/bin/sh\ncat > told.json\nenv > told.env\nprintf "%s|" "$@"\n');
    const end = await run(file, { args: ['a b', '$(id)', ';'] });
    delete process.env['HVDR_CANARY'];
    expect(end).to.deep.equal({ exitCode: 0, isTimedOut: false, output: 'a b|$(id)|;|' });
    expect(JSON.parse(readFileSync(work.file('told.json'), 'utf8'))).to.deep.equal(context);
    const names = readFileSync(work.file('told.env'), 'utf8').match(/^[A-Z_]+(?==)/gm) ?? [];
    expect(names.sort()).to.deep.equal(['LC_ALL', 'PATH', 'PWD']);
  });

  it('gives back its exit code, also when it reads nothing', async () => {
    expect((await run(put('seven.sh', '#!/bin/sh\nexec 0<&-\nexit 7\n'))).exitCode).to.equal(7);
  });

  it('is killed with all it started when its time is over', async () => {
    const file = put('slow.sh', '#!/bin/sh\necho began\nsleep 600 &\necho $! > child.pid\nwait\n');
    const startedAt = systemClock.monotonic();
    const end = await run(file, { timeoutMs: 1500 });
    expect(end).to.deep.equal({ exitCode: undefined, isTimedOut: true, output: 'began' });
    expect(systemClock.monotonic() - startedAt).to.be.below(15_000);
    const child = Number(readFileSync(work.file('child.pid'), 'utf8'));
    const state = (): string => {
      try {
        return /\) (\w)/.exec(readFileSync(`/proc/${child}/stat`, 'utf8'))?.[1] ?? 'gone';
      } catch {
        return 'gone';
      }
    };
    if (process.platform === 'linux') expect(state()).to.be.oneOf(['gone', 'Z', 'X']);
  });

  it('is killed when whoever waits for it stops', async () => {
    const stop = new AbortController();
    const file = put('stopped.sh', '#!/bin/sh\nsleep 600\n');
    const running = run(file, { signal: stop.signal });
    await systemClock.sleep(300);
    stop.abort(new Error('stopped'));
    expect(await running.then(String, String)).to.equal('Error: stopped');
  });

  it('is not waited for by what it left running', async () => {
    const file = put('left.sh', '#!/bin/sh\nsleep 5 &\necho done\n');
    const startedAt = systemClock.monotonic();
    expect((await run(file)).output).to.equal('done');
    expect(systemClock.monotonic() - startedAt).to.be.below(4500);
  });

  it('may say as much as it likes; the end of it is kept', async () => {
    const file = put('loud.sh', '#!/bin/sh\nhead -c 3000000 /dev/zero | tr "\\0" x\necho end\n');
    const { exitCode, output } = await run(file);
    expect(exitCode).to.equal(0);
    expect(output).to.have.length.at.most(2000);
    expect(output).to.match(/x\n?end$/);
  });

  it('that cannot be started says why', async () => {
    const { exitCode, output } = await run(put('plain.sh', '#!/bin/sh\n', 0o644));
    expect(exitCode).to.equal(undefined);
    expect(output).to.contain('could not be started').and.to.contain('EACCES');
  });

  describe('by its name', () => {
    it('is found in its folder alone', async () => {
      put('here.sh', '');
      const found = await findScript(nodeFileSystem, work.path, 'here.sh');
      expect(found).to.match(/here\.sh$/);
      mkdirSync(work.file('scripts'));
      symlinkSync(work.file('here.sh'), work.file('scripts/link.sh'));
      const refused = async (folder: string | undefined, name: string): Promise<string> =>
        (await refusal(() => findScript(nodeFileSystem, folder, name))).code;
      expect(await refused(work.file('scripts'), 'link.sh')).to.equal('E_PARAMETER');
      expect(await refused(work.file('scripts'), '../here.sh')).to.equal('E_PARAMETER');
      expect(await refused(work.file('scripts'), '/bin/sh')).to.equal('E_PARAMETER');
      expect(await refused(work.path, 'scripts')).to.equal('E_NOT_FOUND');
      expect(await refused(work.path, 'nowhere.sh')).to.equal('E_NOT_FOUND');
      expect(await refused(undefined, 'here.sh')).to.equal('E_PARAMETER');
    });

    it('is not run when others may change it, or its folder', async () => {
      put('loose.sh', '', 0o775);
      const loose = await refusal(() => findScript(nodeFileSystem, work.path, 'loose.sh'));
      expect(loose.message).to.contain('others may change');
      mkdirSync(work.file('open'));
      chmodSync(work.file('open'), 0o777);
      put('open/x.sh', '');
      const open = await refusal(() => findScript(nodeFileSystem, work.file('open'), 'x.sh'));
      expect(open.message).to.contain('others may change');
    });
  });

  it('of PowerShell is run by the PowerShell of the system, without a shell', () => {
    const windows = { platform: 'win32' as const, systemRoot: 'C:\\Windows' };
    const { program, args } = commandOf('D:\\s\\probe.ps1', ['x'], windows);
    expect(program).to.equal('C:\\Windows\\System32\\WindowsPowerShell\\v1.0\\powershell.exe');
    expect(args.slice(-3)).to.deep.equal(['-File', 'D:\\s\\probe.ps1', 'x']);
    expect(commandOf('/s/probe.ps1', [], { ...windows, platform: 'linux' }).program).to.equal(
      '/s/probe.ps1',
    );
    expect(Object.keys(environmentOf(windows))).to.deep.equal(['SystemRoot', 'PATH']);
  });
});
