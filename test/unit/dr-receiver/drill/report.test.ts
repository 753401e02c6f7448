// Reports of drills: one text for one content, every change seen, nothing of it executed by a browser.

import { createPublicKey, generateKeyPairSync, verify } from 'node:crypto';
import { expect } from 'chai';
import fc from 'fast-check';
import {
  ensureReportKey,
  parsePublicKey,
  publicKeyOfStore,
  publicReportKey,
  readReportKey,
} from '../../../../dr-receiver/failover/drill/report-key.js';
import { reportPage, verifyPage } from '../../../../dr-receiver/failover/drill/report-page.js';
import { keepReport, readReport } from '../../../../dr-receiver/failover/drill/report-store.js';
import {
  canonicalJson,
  type DrillReport,
  reportText,
  signReport,
  verifyReport,
} from '../../../../dr-receiver/failover/drill/report.js';
import { StoreLayout } from '../../../../dr-receiver/store/layout.js';
import { guid } from '../../../../shared/bytes/index.js';
import { nodeFileSystem } from '../../../../shared/files/index.js';
import { crashEverywhere } from '../../../support/crash-everywhere.js';
import { SAMPLE_REPORT } from '../../../support/drill-report.js';
import { MemoryFileSystem } from '../../../support/memory-file.js';
import { refusal } from '../../../support/refusal.js';
import { SeededRandom } from '../../../support/seeded-random.js';
import { WorkFolder } from '../../../support/work-folder.js';

const key = generateKeyPairSync('ed25519');
const signed = signReport(SAMPLE_REPORT, key);
const text = reportText(signed);
const codeOf = (work: () => unknown): string => {
  try {
    work();
    return 'none';
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error);
  }
};

describe('drill report', () => {
  it('has one canonical text, whatever the order of its fields', () => {
    expect(canonicalJson({ b: [1, { d: 'x', c: null }], a: true })).to.equal(
      '{"a":true,"b":[1,{"c":null,"d":"x"}]}',
    );
    const turned = Object.fromEntries(Object.entries(SAMPLE_REPORT).reverse());
    expect(canonicalJson(turned)).to.equal(canonicalJson(SAMPLE_REPORT));
  });

  it('verifies as it was written, and in another layout', () => {
    expect(verifyReport(text, 'file').report).to.deep.equal(SAMPLE_REPORT);
    const dense = JSON.stringify(JSON.parse(text));
    expect(verifyReport(dense, 'file').signature).to.deep.equal(signed.signature);
  });

  it('verifies with nothing but Ed25519 and the documented bytes', () => {
    const { publicKey, value } = signed.signature;
    const spki = Buffer.concat([
      Buffer.from('302a300506032b6570032100', 'hex'),
      Buffer.from(publicKey, 'base64'),
    ]);
    const message = Buffer.from(`hvdr drill report/1\0${canonicalJson(SAMPLE_REPORT)}`);
    const peer = createPublicKey({ key: spki, format: 'der', type: 'spki' });
    expect(verify(null, message, peer, Buffer.from(value, 'base64'))).to.equal(true);
  });

  it('is refused when any character of it was changed', () => {
    fc.assert(
      fc.property(fc.nat(text.length - 1), fc.integer({ min: 32, max: 126 }), (at, code) => {
        const changed = text.slice(0, at) + String.fromCharCode(code) + text.slice(at + 1);
        const isSame = changed.replace(/\s/g, '') === text.replace(/\s/g, '');
        // a blank for a blank changes no value
        if (isSame && changed[at]?.trim() === '' && text[at]?.trim() === '') return;
        if (changed === text) return;
        expect(codeOf(() => verifyReport(changed, 'file'))).to.be.oneOf([
          'E_FILE_DAMAGED',
          'E_FILE_VERSION',
        ]);
      }),
    );
  });

  it('is refused with a name that stands twice', () => {
    const twice = text.replace('"verdict": "passed"', '"verdict": "failed",\n "verdict": "passed"');
    expect(codeOf(() => verifyReport(twice, 'file'))).to.equal('E_FILE_DAMAGED');
  });

  it('is refused when a good signature stands under something that is no report', () => {
    const wrong = [
      { ...SAMPLE_REPORT, checks: 'none' },
      { ...SAMPLE_REPORT, extra: 1 },
      { ...SAMPLE_REPORT, verdict: 'splendid' },
      { format: SAMPLE_REPORT.format, formatVersion: 1 },
    ] as unknown as DrillReport[];
    for (const report of wrong) {
      const forged = reportText(signReport(report, key));
      expect(codeOf(() => verifyReport(forged, 'file'))).to.equal('E_FILE_DAMAGED');
    }
    const later = { ...SAMPLE_REPORT, formatVersion: 2 } as unknown as DrillReport;
    const laterText = reportText(signReport(later, key));
    expect(codeOf(() => verifyReport(laterText, 'file'))).to.equal('E_FILE_VERSION');
  });

  it('is refused, and never believed, whatever text is given', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (any) => {
        expect(codeOf(() => verifyReport(any, 'file'))).to.equal('E_FILE_DAMAGED');
        expect(codeOf(() => verifyPage(any, 'file'))).to.equal('E_FILE_DAMAGED');
      }),
    );
  });
});

describe('page of a drill report', () => {
  const hostile = `<script>alert(1)</script>"'&</pre>\u202e\u001b[2J\ud800`;

  it('shows the verdict, times, checks and timeline, and loads nothing', () => {
    const page = reportPage(signed);
    for (const words of ['PASSED', 'SQL01', '1 min 02 s', '5 min 00 s', 'heartbeat', 'T7']) {
      expect(page).to.contain(words);
    }
    expect(page).to.match(/content="default-src 'none'; style-src 'sha256-[^']+'"/);
    expect(page).not.to.match(/<script|<img|<link|<iframe|https?:|url\(|\son\w+=/i);
  });

  it('escapes everything that came from outside, and still verifies as a file', () => {
    const [check] = SAMPLE_REPORT.checks;
    const report: DrillReport = {
      ...SAMPLE_REPORT,
      verdict: 'failed',
      problem: hostile,
      vm: { ...SAMPLE_REPORT.vm, name: hostile, instanceName: hostile },
      by: hostile,
      network: { testNetwork: hostile, ipMap: { [hostile]: hostile } },
      checks: check === undefined ? [] : [{ ...check, check: hostile, words: hostile }],
      timeline: [{ atMs: Number.MAX_SAFE_INTEGER, step: hostile, what: hostile }],
      warnings: [hostile],
    };
    const page = reportPage(signReport(report, key));
    expect(page).not.to.match(/<script|\u202e|\u001b/);
    const asFile = Buffer.from(page).toString();
    expect(verifyPage(asFile, 'page').report).to.deep.equal(report);
  });

  it('is refused when it shows something else than was signed', () => {
    const page = reportPage(signed);
    const shown = page.replace('PASSED – SQL01', 'PASSED – SQL02');
    expect(shown).not.to.equal(page);
    expect(codeOf(() => verifyPage(shown, 'page'))).to.equal('E_DIFFERENT');
    const data = page.replace(
      '&quot;verdict&quot;: &quot;passed',
      '&quot;verdict&quot;: &quot;failed',
    );
    expect(data).not.to.equal(page);
    expect(codeOf(() => verifyPage(data, 'page'))).to.equal('E_FILE_DAMAGED');
  });
});

describe('key for drill reports', () => {
  const layout = new StoreLayout('/store');
  const operationId = guid(SAMPLE_REPORT.operationId);
  const random = new SeededRandom(1);

  it('is made once, and stays the same', async () => {
    const fs = new MemoryFileSystem();
    fs.addFolder('/store');
    const first = publicReportKey(await ensureReportKey(fs, layout, random));
    const second = publicReportKey(await ensureReportKey(fs, layout, random));
    expect(second).to.deep.equal(first);
    expect(parsePublicKey(first.pem, 'pem').toString('base64')).to.equal(first.publicKey);
  });

  it('is refused when a byte of its file was changed', async () => {
    const fs = new MemoryFileSystem();
    fs.addFolder('/store');
    await ensureReportKey(fs, layout, random);
    const good = fs.content(layout.drillKey) ?? Buffer.alloc(0);
    for (let at = 0; at < good.length; at++) {
      const bad = Buffer.from(good);
      bad[at] = (bad[at] ?? 0) ^ 1;
      fs.put(layout.drillKey, bad);
      const { code } = await refusal(() => readReportKey(fs, layout));
      expect(code).to.equal('E_FILE_DAMAGED');
    }
  });

  it('is its owner’s alone, and refused when others may read it', async () => {
    const work = new WorkFolder('drill-key');
    try {
      const real = new StoreLayout(work.path);
      await ensureReportKey(nodeFileSystem, real, random);
      expect((await nodeFileSystem.status(real.drillKey))?.isExposed).not.to.equal(true);
      if (process.platform === 'win32') return;
      const { chmodSync } = await import('node:fs');
      chmodSync(real.drillKey, 0o644);
      expect((await refusal(() => readReportKey(nodeFileSystem, real))).code).to.equal(
        'E_KEY_FILE',
      );
    } finally {
      work.dispose();
    }
  });

  it('is not made in a folder that is no store, nor beside a receiver', async () => {
    const fs = new MemoryFileSystem();
    fs.addFolder('/store');
    expect((await refusal(() => publicKeyOfStore(fs, layout, random))).code).to.equal(
      'E_NOT_FOUND',
    );
    fs.put(layout.description, Buffer.from('{}'));
    fs.put(layout.lock, Buffer.alloc(0));
    const receiver = await fs.open(layout.lock, { mode: 'write' });
    expect((await refusal(() => publicKeyOfStore(fs, layout, random))).code).to.equal('E_LOCKED');
    await receiver.close();
    const { publicKey } = await publicKeyOfStore(fs, layout, random);
    expect(Buffer.from(publicKey, 'base64')).to.have.length(32);
  });

  it('survives a power cut with every report that was kept', async () => {
    const volume = new MemoryFileSystem();
    volume.addFolder('/store');
    const stateCount = await crashEverywhere({
      volume,
      run: async (fs) => {
        await keepReport(operationId, SAMPLE_REPORT, { fs, layout, random });
      },
      check: async (found, { hasFinished }) => {
        const kept = await readReport(operationId, { fs: found, layout });
        if (hasFinished) expect(kept).to.be.a('string');
        const storeKey = await readReportKey(found, layout);
        if (kept === undefined) return;
        const { signature } = verifyReport(kept, 'kept');
        expect(storeKey === undefined ? '' : publicReportKey(storeKey).keyId).to.equal(
          signature.keyId,
        );
        const page = found.content(layout.report(operationId, 'html'))?.toString() ?? '';
        expect(verifyPage(page, 'page').report).to.deep.equal(SAMPLE_REPORT);
      },
      seedCount: 2,
    });
    expect(stateCount).to.be.greaterThan(20);
  });
});
