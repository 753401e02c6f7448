// Suites of ours, run by Node for Windows under Wine: the disk seam on real files, the lab host, the provider of Hyper-V,
// the VHDX engine, the receiver and the secure channel. What only names paths as POSIX does is left out.

import { expect } from 'chai';
import { DOUBLE_VARIABLE } from '../support/hyperv-host/rig.js';
import { doubleSources } from '../support/virtdisk-rig.js';
import { WindowsProduct } from '../support/windows-product.js';
import { compileForWindows, needWine, windowsPath, WinePrefix } from '../support/wine.js';

const IS_SLOW = process.env['SLOW'] === '1';

/** Of unit/dr-receiver: the store and all that works on it. */
const RECEIVER = [
  ...['disk-intake', 'forecast', 'health', 'import', 'journal', 'leases', 'many-vms', 'progress'],
  ...[
    'protection',
    'reclaim-plan',
    'reclaim',
    'remove-point',
    'replication',
    'retention',
    'rights',
  ],
  ...['scrub-and-folds', 'scrub', 'stand', 'status', 'store', 'verify-points'],
];

describe('on Windows', function () {
  this.timeout(IS_SLOW ? 900_000 : 180_000);
  let windows: WindowsProduct;
  let double = '';
  const leftovers: (() => Promise<void>)[] = [];

  before(async function () {
    needWine(this);
    const prefix = await WinePrefix.create();
    leftovers.push(() => prefix.dispose());
    windows = await WindowsProduct.install(prefix);
    double = prefix.file('virtdisk-double.dll');
    const sources = doubleSources('virtdisk.c', 'sidecar.c', 'virtdisk.def');
    await compileForWindows(double, sources, ['-lpthread']);
  });

  after(async () => {
    for (const remove of leftovers) await remove();
  });

  const SUITES: readonly {
    readonly what: string;
    readonly files: readonly string[];
    /** At least so many tests pass: a suite that finds nothing is no proof. */
    readonly tests: number;
    readonly without?: string;
    readonly only?: string;
  }[] = [
    {
      what: 'files keep the promises of the disk seam, and lock each other out',
      files: ['conformance/file-system', 'unit/files/node-file', 'unit/files/system-error'],
      tests: 180,
      // a user of Windows may make no such links, unless he is an administrator
      without: 'follows links',
    },
    {
      what: 'the lab host passes the suite of hypervisors',
      files: ['conformance/hypervisor'],
      tests: 50,
    },
    {
      what: 'Hyper-V, by PowerShell processes and a DLL, passes the suite of hypervisors',
      files: ['conformance/hyperv'],
      tests: 27,
      only: 'over PowerShell processes',
    },
    {
      what: 'Hyper-V stands what hosts do: failed jobs, slow merges, others at work, lost tracking',
      files: ['provider', 'host-trouble'].map((name) => `unit/hypervisor/hyperv/${name}`),
      tests: 26,
      // minutes of starting processes; SLOW=1 has them
      ...(IS_SLOW ? {} : { without: 'dies after any call|process ends at any operation' }),
    },
    {
      what: 'the VHDX engine writes, replays its log and follows parents',
      files: ['write-session', 'log-replay', 'chain'].map((name) => `unit/vhdx/${name}`),
      tests: 60,
    },
    {
      what: 'the receiver takes cycles, keeps its journals, prunes, folds, scrubs and gives points back',
      files: RECEIVER.map((name) => `unit/dr-receiver/${name}`),
      tests: 280,
    },
    {
      what: 'the secure channel opens, seals and refuses',
      files: ['noise', 'records', 'session', 'sealed-calls', 'tls'].map(
        (name) => `unit/channel/${name}`,
      ),
      tests: 45,
    },
  ];

  for (const { what, files, tests, without, only } of SUITES) {
    it(what, async () => {
      const paths = files.map((name) => `${name}.test.js`);
      const left = [
        ...(without === undefined ? [] : ['--grep', without, '--invert']),
        ...(only === undefined ? [] : ['--grep', only]),
      ];
      const run = await windows.runTests(paths, left, { [DOUBLE_VARIABLE]: windowsPath(double) });
      expect(run.code, `${run.text.slice(-6000)}${run.stderr}`).to.equal(0);
      const passed = Number(/(\d+) passing/.exec(run.text)?.[1]);
      expect(passed).to.be.at.least(tests);
    });
  }
});
