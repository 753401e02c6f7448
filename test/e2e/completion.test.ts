// The completions that `hvdr completion` prints, each run in its shell: what is offered when Tab is pressed behind the last word.

import { mkdirSync, writeFileSync } from 'node:fs';
import { expect } from 'chai';
import { runHvdr } from '../support/cli.js';
import { needTool } from '../support/need.js';
import { expectTool } from '../support/run-tool.js';
import { WorkFolder } from '../support/work-folder.js';

interface Shell {
  /** Name of the script in the folder of completions. */
  readonly file: string;
  /** Prints what is offered, one a line; its arguments are the script, its folder, and the words. */
  readonly ask: string;
  readonly options: readonly string[];
}

/** A shell with a terminal of its own: Tab means something there only. What is offered passes through compadd. */
const ASK_ZSH = `
  folder=$2
  shift 2
  zmodload zsh/zpty
  zpty shell zsh -f -i
  say() { zpty -w shell "$1" }
  await() { zpty -r -m shell REPLY "*$1*" }
  say "PROMPT=; stty -echo; fpath=($folder \\$fpath); autoload -Uz compinit; compinit -u -D"
  say 'compadd() {
    local -a seen
    if [[ " $* " != *" "-[ADO]" "* ]]; then
      builtin compadd -O seen "$@"
      print -rl -- \${seen/#/offered: }
    fi
    builtin compadd "$@"
  }'
  # only then its line editor reads
  say 'zle-line-init() { print re""ady }; zle -N zle-line-init'
  await ready
  zpty -w -n shell "\${(j: :)@}"$'\\t'
  say $'\\C-U'"print en''d"
  await end
  print -r -- $REPLY | sed -nE 's/.*offered: ([^\\r]*).*/\\1/p' | sort -u
`;

const SHELLS: Readonly<Record<string, Shell>> = {
  bash: {
    file: 'hvdr',
    options: ['--norc', '-euc'],
    ask:
      'source "$1"; shift 2; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _hvdr; ' +
      `printf '%s\\n' "\${COMPREPLY[@]}"`,
  },
  zsh: { file: '_hvdr', options: ['-fc'], ask: ASK_ZSH },
  fish: {
    file: 'hvdr.fish',
    options: ['--no-config', '-c'],
    ask: 'source $argv[2]; complete -C "$argv[4..-1]"',
  },
};

for (const [name, { file, options, ask }] of Object.entries(SHELLS)) {
  describe(`hvdr completion ${name}`, () => {
    const work = new WorkFolder(`completion-${name}`);
    let script: string;

    before(async function () {
      needTool(this, name);
      const run = await runHvdr(['completion', name]);
      expect(run.code, run.stderr).to.equal(0);
      mkdirSync(work.file('completions'));
      mkdirSync(work.file('here'));
      script = work.file(`completions/${file}`);
      writeFileSync(script, run.stdout);
      writeFileSync(work.file('here/receiver.conf'), '');
      writeFileSync(work.file('here/read me.txt'), '');
    });

    after(() => {
      work.dispose();
    });

    async function offered(...words: string[]): Promise<string[]> {
      const args = [...options, ask, name, script, work.file('completions'), 'hvdr', ...words];
      const run = await expectTool(name, args, {
        folder: work.file('here'),
        environment: { HOME: work.path, TERM: 'dumb' },
      });
      expect(run.stderr).to.equal('');
      // in fish a description stands behind each
      const lines = run.text.split('\n').map((line) => line.replace(/\t.*/, ''));
      return lines.filter((line) => line !== '');
    }

    it('offers commands, and those of groups', async () => {
      expect(await offered('fail')).to.have.members(['failover', 'failback']);
      expect(await offered('failover', 'p')).to.have.members(['planned', 'permanent']);
      expect(await offered('--json', 'failover', 'un')).to.have.members(['unplanned', 'undo']);
    });

    it('offers the options of a command, and those of the program', async () => {
      const tls = await offered('receiver', '--tls-c');
      expect(tls).to.have.members(['--tls-cert', '--tls-client-ca']);
      expect(await offered('failover', 'planned', '--js')).to.deep.equal(['--json']);
    });

    it('offers the values of a choice, else files, with blanks as well', async () => {
      expect(await offered('receiver', '--store', 'rec')).to.deep.equal(['receiver.conf']);
      expect(await offered('push', '--log-level', 'w')).to.deep.equal(['warn']);
      const files = await offered('receiver', '--config', 're');
      expect(files.map((path) => path.replace('\\ ', ' '))).to.have.members([
        ...['receiver.conf', 'read me.txt'],
      ]);
    });

    it('takes the value of an option for no command', async () => {
      expect(await offered('--log-level', 'debug', 'psk', 'gen')).to.deep.equal(['generate']);
      expect(await offered('push', '--vm', 'failover', '--psk')).to.deep.equal(['--psk-file']);
    });
  });
}
