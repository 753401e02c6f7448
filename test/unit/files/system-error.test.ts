import { expect } from 'chai';
import { fromSystemError } from '../../../shared/files/system-error.js';

function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: text of the system`), { code });
}

describe('errors of the system', () => {
  const expected = {
    ENOENT: 'E_NOT_FOUND',
    ENOTDIR: 'E_NOT_FOUND',
    EEXIST: 'E_EXISTS',
    ENOSPC: 'E_CAPACITY',
    EDQUOT: 'E_CAPACITY',
    EFBIG: 'E_CAPACITY',
    EIO: 'E_IO',
    EACCES: 'E_IO',
    ELOOP: 'E_IO',
    ESOMETHING: 'E_IO',
  } as const;
  for (const [systemCode, code] of Object.entries(expected)) {
    it(`${systemCode} is ${code} and keeps path, system code and cause`, () => {
      const cause = systemError(systemCode);
      const error = fromSystemError(cause, 'write', '/a', { facts: { position: 5 } });
      expect(error.code).to.equal(code);
      expect(error.context).to.deep.equal({ path: '/a', systemCode, position: 5 });
      expect(error.cause).to.equal(cause);
      expect(error.message).to.equal(`cannot write /a: ${systemCode}: text of the system`);
    });
  }

  it('says what to do where it can be said better than in general', () => {
    expect(fromSystemError(systemError('EACCES'), 'open', '/a').hint).to.contain('right');
    expect(fromSystemError(systemError('EMFILE'), 'open', '/a').hint).to.contain('ulimit');
    const tooLarge = fromSystemError(systemError('EFBIG'), 'write', '/a');
    expect(tooLarge.hint).to.contain('file of this size').and.not.contain('Free space');
    expect(fromSystemError(systemError('ENOSPC'), 'write', '/a').hint).to.contain('Free space');
    expect(fromSystemError(systemError('EROFS'), 'open', '/a').hint).to.contain('read-only');
  });

  it('takes what is no error of the system for an input/output error', () => {
    expect(fromSystemError('odd', 'open', '/a').context['systemCode']).to.equal('unknown');
  });
});
