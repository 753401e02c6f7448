import { CommanderError } from 'commander';
import { expect } from 'chai';
import { asDrError } from '../../../cli/program.js';
import { AssertionError } from '../../../shared/assert.js';
import { DrError } from '../../../shared/errors.js';
import { runInProcess } from '../../support/cli.js';

describe('asDrError', () => {
  it('leaves errors of the catalogue as they are', () => {
    const error = new DrError('E_CAPACITY', 'full');
    expect(asDrError(error)).to.equal(error);
  });

  it('calls a broken invariant and anything unexpected a bug, exit code 70', () => {
    for (const error of [new AssertionError('broken'), new TypeError('x'), 'text']) {
      const failure = asDrError(error);
      expect(failure.code).to.equal('E_INTERNAL');
      expect(failure.exitCode).to.equal(70);
      expect(failure.cause).to.equal(error);
    }
  });

  it('keeps a suggestion of the parser as the hint', () => {
    const error = new CommanderError(
      1,
      'commander.unknownCommand',
      "error: unknown command 'explian'\n(Did you mean explain?)",
    );
    const failure = asDrError(error);
    expect(failure.line).to.equal(
      "E_USAGE: unknown command 'explian'; nothing was changed; Did you mean explain?",
    );
  });
});

describe('run', () => {
  it('answers on the given streams and returns the exit code', async () => {
    const run = await runInProcess(['explain', 'E_IO', '--json']);
    expect(run.code).to.equal(0);
    expect(run.stderr).to.equal('');
    expect(JSON.parse(run.stdout)).to.include({ code: 'E_IO', exitCode: 16 });
  });
});
