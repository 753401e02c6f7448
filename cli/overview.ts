// What `hvdr` says when it is started alone: one line a task, for people who do not know the
// commands yet. Held to ten tasks by a test.

const TASKS: readonly (readonly [task: string, command: string])[] = [
  ['see it work, with proof', 'hvdr demo'],
  ['check this machine', 'hvdr doctor'],
  ['make a key for both sites', 'hvdr psk generate --out FILE'],
  ['receive at the DR site', 'hvdr receiver --store DIR --listen ADDR:PORT --psk-file FILE'],
  ['replicate a VM once', 'hvdr push --vm NAME --host HOST --dr-host H --psk-file FILE'],
  ['replicate for ever', 'hvdr daemon --config FILE'],
  ['see how far behind it is', 'hvdr status'],
  [
    'see and prove restore points',
    'hvdr points VM · hvdr verify VM --point all · hvdr export --help',
  ],
  ['start a VM at the DR site', 'hvdr failover test VM · planned VM · unplanned VM'],
  ['practise without Hyper-V', 'hvdr lab --help'],
];

/** The lines of `hvdr` alone. */
export function overview(): string {
  const width = Math.max(...TASKS.map(([task]) => task.length));
  const lines = TASKS.map(([task, command]) => `${task.padEnd(width)}  ${command}`);
  return `${lines.join('\n')}\n\nAll commands: hvdr --help. A command with examples: hvdr COMMAND --help.\n`;
}
