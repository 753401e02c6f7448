import { expect } from 'chai';
import { isNamedBackend, ownCommand, ownText } from '../../../cli/own-program.js';

describe('how the program is installed', () => {
  it('the single executable is the backend under its name, as long as nothing is asked of it', () => {
    for (const name of [
      '/usr/lib/podheitor/podheitor-hyperv-backend',
      'C:\\Program Files\\PodHeitor\\PODHEITOR-HYPERV-BACKEND.EXE',
      'podheitor-hyperv-backend-wine.exe',
    ]) {
      expect(isNamedBackend(name, []), name).to.equal(true);
      expect(isNamedBackend(name, ['receiver']), name).to.equal(false);
    }
    for (const name of ['hvdr', 'C:\\podheitor-hyperv-backend\\hvdr.exe', '']) {
      expect(isNamedBackend(name, []), name).to.equal(false);
    }
  });

  it('in files, it starts itself again by Node and reads its texts from beside', () => {
    const { program, args } = ownCommand(['status']);
    expect(program).to.equal(process.execPath);
    expect(args.slice(1)).to.deep.equal(['status']);
    expect(JSON.parse(ownText('package.json'))).to.have.property('version');
  });
});
