// What a receiver is told with a command: by a job the same as by the command line, so that both have one
// plan with one hash.

import { expect } from 'chai';
import { confirmationOf } from '../../../plugin-bridge/jobs/operation-vm.js';
import { COMMAND_PARAMETERS, commandParameters } from '../../../shared/operator/commands.js';
import {
  OPERATIONS,
  parseConfigFile,
  parsePluginString,
  resolveParameters,
} from '../../../shared/params/index.js';
import { refusal } from '../../support/refusal.js';

const given = (line: string, file = '') =>
  resolveParameters(
    parsePluginString(`podheitor-hyperv: ${line}`).given,
    parseConfigFile(file, 'a.conf'),
  );

describe('commands of an operator', () => {
  it('are told what was given for them, as it was written', () => {
    const set = given('vm=SQL* dr_host=dr1 timeout=5 point=latest boot_timeout=020 force=no');
    expect(commandParameters('unplanned', set)).to.deep.equal({
      point: 'latest',
      boot_timeout: '020',
    });
  });

  it('know a flag by one word, and only when it is set', () => {
    for (const text of ['yes', 'true', '1']) {
      expect(commandParameters('test', given(`keep=${text}`))).to.deep.equal({ keep: 'yes' });
    }
    expect(commandParameters('test', given('keep=no'))).to.deep.equal({});
  });

  it('refuse what they do not take, but for a file that serves several jobs', async () => {
    const error = await refusal(() =>
      Promise.resolve().then(() => commandParameters('undo', given('point=latest'))),
    );
    expect(error.code).to.equal('E_PARAMETER');
    expect(error.message).to.equal('point, Plugin string: undo takes none');
    expect(error.hint).to.equal('It takes keep_disk, force, reason.');
    const fromFile = given('reason=x', 'point=latest\nforce=yes');
    expect(commandParameters('undo', fromFile)).to.deep.equal({ force: 'yes', reason: 'x' });
  });

  it('are those of the modes', () => {
    expect(Object.keys(COMMAND_PARAMETERS).sort()).to.deep.equal(Object.values(OPERATIONS).sort());
  });
});

describe('the confirmation of a plan', () => {
  const hash = '0123456789abcdef'.repeat(4);

  it('is the hash when enough of it was given, among others and in any case', () => {
    expect(confirmationOf(hash, ['f'.repeat(64), hash.slice(0, 12).toUpperCase()])).to.equal(hash);
  });

  it('is what was given when nothing fits, so that the receiver refuses it', () => {
    expect(confirmationOf(hash, [hash.slice(0, 11)])).to.equal(hash.slice(0, 11));
    expect(confirmationOf(hash, ['f'.repeat(64)])).to.equal('f'.repeat(64));
    expect(confirmationOf(hash, [])).to.equal('');
  });
});
