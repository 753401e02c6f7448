import { expect } from 'chai';
import fc from 'fast-check';
import {
  CatalogNames,
  encodeRctState,
  encodeVmConfig,
  encodeVmName,
  parseCatalogPath,
  parseRctState,
  parseVmConfig,
  parseVmFolder,
  type RctState,
  vmFolder,
} from '../../../shared/catalog/index.js';
import type { VmDefinition } from '../../../shared/hypervisor/index.js';
import { testGuid } from '../../support/fake-source-hypervisor.js';
import { refusal } from '../../support/refusal.js';

const VM = testGuid(1);
const DISK = testGuid(2);

const STATE: RctState = {
  vmId: VM,
  vmName: 'SQL01',
  pointId: testGuid(3),
  parentPointId: testGuid(4),
  job: 'nightly.2026-11-26_19.05.00_03',
  level: 'incremental',
  consistency: 'application',
  consistentAtMs: 1_795_000_000_123,
  seq: 1_795_000_000_124,
  disks: [
    {
      diskId: DISK,
      generation: 2,
      sizeBytes: 65536 * 3 + 512,
      sectors: { logicalBytes: 512, physicalBytes: 4096 },
      kind: 'delta',
      file: 'SQL01/disks/x.cbt',
      manifest: 'SQL01/.meta/x.manifest',
      root: 'ab'.repeat(32),
    },
  ],
};

const CONFIG: VmDefinition = {
  id: VM,
  name: 'SQL01',
  generation: 2,
  cpuCount: 4,
  memoryBytes: 2 ** 32,
  isAutoStart: true,
  disks: [
    {
      diskId: DISK,
      controller: 'scsi',
      controllerNumber: 0,
      controllerLocation: 1,
      sizeBytes: 65536,
      logicalSectorBytes: 512,
      physicalSectorBytes: 4096,
      path: 'D:\\vm\\disk.vhdx',
    },
  ],
  adapters: [
    {
      id: testGuid(9),
      name: 'LAN',
      mac: '00155D010203',
      isMacStatic: false,
      isLegacy: true,
      switchName: undefined,
      vlan: 7,
      guest: { isDhcp: false, addresses: ['192.0.2.1/24'], gateways: [], dnsServers: [] },
    },
  ],
  hyperV: {
    isSecureBoot: true,
    secureBootTemplate: '272e7447-90a4-4563-a4b9-8e4ab00526ce',
    dynamicMemory: { minimumBytes: 2 ** 29, maximumBytes: 2 ** 33 },
    hasTpm: true,
    integrationServices: [{ id: testGuid(11), isEnabled: false }],
    bootOrder: [
      { kind: 'disk', diskId: DISK },
      { kind: 'adapter', adapterId: testGuid(9) },
      { kind: 'class', deviceClass: 'CD' },
    ],
    firmwareIds: {
      biosGuid: undefined,
      biosSerialNumber: '1234',
      baseBoardSerialNumber: '',
      chassisSerialNumber: '5678',
      chassisAssetTag: '',
    },
  },
};

/** Anything that a host may take for a name, lone surrogates as well. */
const name = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 12 }),
  fc.array(fc.nat(0xffff), { maxLength: 8 }).map((units) => String.fromCharCode(...units)),
  fc.constantFrom('CON', 'com1.x', 'aux ', '..', 'a~12345678', '%', 'a%7E', '\ufeff', '~', 'é. '),
);

describe('catalog: the folder of a VM', () => {
  for (const [given, folder] of [
    ['SQL01', 'SQL01'],
    ['Bücher 📚', 'Bücher 📚'],
    ['a/b: 50 %', 'a%2Fb%3A 50 %25'],
    ['end. ', 'end.%20'],
    ['..', '.%2E'],
    ['con', '%63on'],
    ['COM1.old', '%43OM1.old'],
    ['console', 'console'],
    ['left\u202eright', 'left%E2%80%AEright'],
    ['x~0a0b0c0d', 'x%7E0a0b0c0d'],
    ['', '%'],
    ['\ud800', '%ED%A0%80'],
  ] as const) {
    it(`of "${JSON.stringify(given)}" is ${folder}`, () => {
      expect(encodeVmName(given)).to.equal(folder);
      expect(parseVmFolder(folder)?.vmName).to.equal(given);
    });
  }

  it('gives back every name, and is one part of a path', () => {
    fc.assert(
      fc.property(name, (vmName) => {
        const folder = encodeVmName(vmName);
        expect(parseVmFolder(folder)).to.deep.equal({ vmName, idStart: undefined });
        expect(folder).not.to.match(/[/\\:]|[. ]$|^$/);
      }),
      { numRuns: 3000 },
    );
  });

  it('has one spelling: what is spelt otherwise is none of ours', () => {
    for (const folder of [
      '',
      'a%2',
      'a%2f',
      '%41',
      'a%FF',
      'a/b',
      'CON',
      'a.',
      '%ED%A0%80%ED%B0%80',
    ]) {
      expect(parseVmFolder(folder), folder).to.equal(undefined);
    }
  });

  it('tells two VMs of one name apart, also where case does not count', () => {
    const one = { id: testGuid(0x11), name: 'SQL' };
    const other = { id: testGuid(0x22), name: 'sql' };
    expect(vmFolder(one, [one])).to.equal('SQL');
    expect(vmFolder(one, [one, other])).to.equal(`SQL~${one.id.slice(0, 8)}`);
    expect(parseVmFolder(vmFolder(other, [one, other]))).to.deep.equal({
      vmName: 'sql',
      idStart: other.id.slice(0, 8),
    });
  });

  it('stays short enough for a file system, whatever the name', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', minLength: 40, maxLength: 400 }), (vmName) => {
        const folder = vmFolder({ id: VM, name: vmName }, []);
        const names = new CatalogNames(folder);
        for (const path of [names.deltaManifest(DISK, 10 ** 15 - 1), names.delta(DISK, 1)]) {
          for (const part of path.split('/')) expect(Buffer.byteLength(part)).to.be.at.most(255);
        }
        expect(parseVmFolder(folder), folder).not.to.equal(undefined);
      }),
    );
  });
});

describe('catalog: names of files', () => {
  const names = new CatalogNames('SQL01');

  it('say what they are', () => {
    const folder = 'SQL01';
    expect(parseCatalogPath(names.config)).to.deep.equal({ kind: 'config', folder });
    expect(parseCatalogPath(names.state)).to.deep.equal({ kind: 'state', folder });
    const disk = { folder, diskId: DISK };
    expect(parseCatalogPath(names.base(DISK))).to.deep.equal({ kind: 'base', ...disk });
    expect(parseCatalogPath(names.baseManifest(DISK))).to.deep.equal({
      kind: 'base-manifest',
      ...disk,
    });
    const seq = 1_795_000_000_124;
    expect(parseCatalogPath(names.delta(DISK, seq))).to.deep.equal({ kind: 'delta', ...disk, seq });
    expect(parseCatalogPath(names.deltaManifest(DISK, seq))).to.deep.equal({
      kind: 'delta-manifest',
      ...disk,
      seq,
    });
    for (const about of ['push', 'verify'] as const) {
      expect(parseCatalogPath(names.report(about, seq))).to.deep.equal({ kind: 'other', folder });
    }
  });

  it('of old are read: a delta without a number', () => {
    const path = `SQL01/disks/SQL01_${DISK}.vhdx.cbt`;
    expect(parseCatalogPath(path)).to.deep.include({ kind: 'delta', seq: undefined });
  });

  it('that cannot stand there are none', () => {
    for (const path of ['', '/SQL01', '../config/vm.json', './config/vm.json', 'x'.repeat(5000)]) {
      expect(parseCatalogPath(path), path.slice(0, 20)).to.equal(undefined);
    }
  });
});

describe('catalog: records', () => {
  it('come back as they were', () => {
    expect(parseRctState(encodeRctState(STATE), 's')).to.deep.equal(STATE);
    expect(parseVmConfig(encodeVmConfig(CONFIG), 'c')).to.deep.equal(CONFIG);
  });

  it('of which any field was changed are refused, never half read', async () => {
    for (const [whole, parse] of [
      [encodeRctState(STATE), parseRctState],
      [encodeVmConfig(CONFIG), parseVmConfig],
    ] as const) {
      const fields = JSON.parse(whole.toString()) as Record<string, unknown>;
      for (const field of Object.keys(fields)) {
        if (field === 'parentPointId') continue;
        const changed = Buffer.from(JSON.stringify({ ...fields, [field]: { not: 'this' } }));
        const error = await refusal(async () => Promise.resolve(parse(changed, 'x')));
        expect(error.code, field).to.equal('E_FILE_DAMAGED');
      }
      const later = Buffer.from(JSON.stringify({ ...fields, format: 2 }));
      const error = await refusal(async () => Promise.resolve(parse(later, 'x')));
      expect(error.code).to.equal('E_FILE_VERSION');
    }
  });

  it('that are too long, torn, of two like disks or without the parent that a delta needs are refused', async () => {
    const [disk] = STATE.disks;
    const hostile = [
      Buffer.alloc(5 * 1024 * 1024, 0x20),
      encodeRctState(STATE).subarray(0, 100),
      Buffer.from('[]'),
      Buffer.from([0xff]),
      encodeRctState({ ...STATE, disks: disk === undefined ? [] : [disk, disk] }),
      encodeRctState({ ...STATE, parentPointId: undefined }),
    ];
    for (const bytes of hostile) {
      const error = await refusal(async () => Promise.resolve(parseRctState(bytes, 'x')));
      expect(error.code).to.equal('E_FILE_DAMAGED');
    }
  });
});
