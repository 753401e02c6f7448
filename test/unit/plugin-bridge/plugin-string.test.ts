// Plugin lines, written and read, and what is said about wrong ones.

import { expect } from 'chai';
import { findPlugins } from '../../../plugin-bridge/director-config.js';
import { doubtsOfPlugin } from '../../../plugin-bridge/plugin-doubts.js';
import {
  cutCommand,
  directorString,
  fileSetText,
  parameterOf,
  pluginCommand,
} from '../../../plugin-bridge/plugin-string.js';
import { hostileValues } from '../../support/plugin-values.js';
import { refusal } from '../../support/refusal.js';

const fileSet = (line: string): string => `FileSet {\n Name = X\n Include {\n  ${line}\n }\n}\n`;

function doubtsOf(line: string): string[] {
  const [plugin] = findPlugins(fileSet(line));
  if (plugin === undefined) throw new Error('no Plugin line was found');
  return doubtsOfPlugin(plugin).map(
    ({ isFatal, detail }) => `${isFatal ? 'fail' : 'warn'} ${detail}`,
  );
}

describe('a Plugin line', () => {
  it('with single backslashes is doubted, at whichever parser they are lost', () => {
    const line = (path: string): string =>
      `Plugin = "podheitor-hyperv: vm=a dr_host=b dr_psk_file=${path}"`;
    expect(doubtsOf(line(String.raw`D:\keys\a.psk`))).to.deep.equal([
      'warn the backslash before "k" is swallowed by the Director',
    ]);
    expect(doubtsOf(line(String.raw`D:\\keys\\a.psk`))).to.deep.equal([
      'warn a backslash is swallowed by the parser of plugin commands',
    ]);
    expect(doubtsOf(line(String.raw`D:\\\\keys\\\\a.psk`))).to.deep.equal([]);
  });

  it('gives every value back that was written into it', () => {
    const parameters = hostileValues.map((value, index) => ({ key: `key${index}`, value }));
    const command = pluginCommand('podheitor-hyperv', parameters);
    const text = fileSetText({ name: 'All', commands: [command] });
    const [found] = findPlugins(text);
    expect(found).to.include({ command, fileSet: 'All', isQuoted: true, isBroken: false });
    const words = cutCommand(command.slice('podheitor-hyperv:'.length));
    expect(words.map(parameterOf)).to.deep.equal(parameters);
  });

  it('stays plain where nothing has to be quoted', () => {
    const parameters = [
      { key: 'vm', value: 'SQL*' },
      { key: 'mode', value: 'rct-push' },
    ];
    const command = pluginCommand('podheitor-hyperv', parameters);
    expect(command).to.equal('podheitor-hyperv: vm=SQL* mode=rct-push');
    expect(directorString(command)).to.equal(`"${command}"`);
  });

  it('takes no control character, no half letter and no endless text', async () => {
    for (const value of ['a\nb', 'a\tb', 'a\u0000', '\ud800', 'x'.repeat(5000)]) {
      const parameters = [{ key: 'vm', value }];
      const refused = await refusal(() =>
        Promise.resolve(pluginCommand('podheitor-hyperv', parameters)),
      );
      expect(refused.code).to.equal('E_PARAMETER');
    }
  });

  it('is found in the files of a Director, whatever stands around it', () => {
    const text = `# Plugin = "podheitor-hyperv: vm=comment"
Job { Name = "J"; Plugin = "no FileSet" }
FileSet
{
  Name = "Two words" ; Include {
    Options { Signature = SHA1 ; Plugin = "of another kind" }
    File = "/etc" # a comment { with a brace
    Plug In = "podheitor-hyperv: vm=\\"a # b\\""   # behind it
    plugin="podheitor-vsphere:"
  }
}
FileSet { Include { Plugin = "bpipe:/x:y:z" } Name = Second }`;
    expect(
      findPlugins(text).map(({ fileSet: name, command, line }) => [name, command, line]),
    ).to.deep.equal([
      ['Two words', 'podheitor-hyperv: vm="a # b"', 8],
      ['Two words', 'podheitor-vsphere:', 9],
      ['Second', 'bpipe:/x:y:z', 12],
    ]);
  });

  it('raises no doubt when it is right', () => {
    expect(doubtsOf('Plugin = "podheitor-hyperv: vm=\\"a b\\" quiesce=no"')).to.deep.equal([]);
  });

  const WRONG: readonly (readonly [line: string, doubt: RegExp])[] = [
    ['Plugin = podheitor-hyperv: vm=a', /^fail .*no quotes/],
    ['Plugin = "podheitor-hyperv : vm=a"', /^fail no plugin is called "podheitor-hyperv "/],
    ['Plugin = "podheitor-hyperv-fd: vm=a"', /^fail no plugin is called/],
    ['Plugin = "PodHeitor-HyperV: vm=a"', /^fail no plugin is called/],
    ['Plugin = "podheitor-hyperv: vm=a\n b"', /^fail .*several lines/],
    ['Plugin = "podheitor-hyperv: vm=\\"a b"', /^fail a quote inside/],
    ['Plugin = "podheitor-hyperv: config_file=D:\\\\hv.conf"', /^warn a backslash is swallowed/],
    ['Plugin = "podheitor-hyperv: vm=\'ab\'"', /^warn single quotes/],
    ['Plugin = "podheitor-hyperv: vmx=a"', /^fail .*no parameter "vmx"/],
    ['Plugin = "podheitor-hyperv: mode=rct"', /^fail mode/],
    ['Plugin = "podheitor-hyperv: dr_psk=secret"', /^warn dr_psk is a passphrase in clear/],
    ['Plugin = "podheitor-hyperv: dr_psk=env:KEY"', /^fail dr_psk=env/],
    ['Plugin = "podheitor-hyperv: push_apply_remote=yes"', /^fail push_apply_remote and dr_host/],
    [
      'Plugin = "podheitor-hyperv: push_apply_remote=yes config_file=/etc/hv.conf"',
      /^warn .*unless the config_file has it/,
    ],
  ];
  for (const [line, doubt] of WRONG) {
    it(`is doubted: ${line.replace('\n', '⏎')}`, () => {
      const doubts = doubtsOf(line);
      expect(
        doubts.some((each) => doubt.test(each)),
        doubts.join('\n'),
      ).to.equal(true);
      expect(doubts.join('\n')).not.to.contain('secret');
    });
  }

  it('is doubted when it stands twice in one FileSet', () => {
    const line = 'Plugin = "podheitor-hyperv: vm=a"';
    const plugins = findPlugins(fileSet(`${line}\n${line}`));
    const [first, second] = plugins;
    if (first === undefined || second === undefined) throw new Error('both lines are found');
    expect(doubtsOfPlugin(second, [first])).to.have.length(1);
  });
});
