// `hvdr drill …`: what an auditor sees of a report, with and without the key of the store.

import { generateKeyPairSync } from 'node:crypto';
import { expect } from 'chai';
import { reserveReportFile, writeReportFile } from '../../../cli/drill-run.js';
import type { CliContext } from '../../../cli/context.js';
import { keepReport } from '../../../dr-receiver/failover/drill/report-store.js';
import { reportText, signReport } from '../../../dr-receiver/failover/drill/report.js';
import { StoreLayout } from '../../../dr-receiver/index.js';
import { guid } from '../../../shared/bytes/index.js';
import { runInProcess } from '../../support/cli.js';
import { SAMPLE_REPORT } from '../../support/drill-report.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { refusal } from '../../support/refusal.js';
import { SeededRandom } from '../../support/seeded-random.js';

describe('hvdr drill', () => {
  const operationId = guid(SAMPLE_REPORT.operationId);
  const reports = `/store/reports/${operationId}`;
  const random = new SeededRandom(3);
  let files: MemoryFileSystem;
  const hvdr = (...args: string[]): ReturnType<typeof runInProcess> =>
    runInProcess(['drill', ...args], { files, folder: '/', random });

  beforeEach(async () => {
    files = new MemoryFileSystem();
    files.put('/store/store.json', Buffer.from('{}'));
    const layout = new StoreLayout('/store');
    await keepReport(operationId, SAMPLE_REPORT, { fs: files, layout, random });
    const { code } = await hvdr('public-key', '--store', 'store', '--out', 'store.pub');
    expect(code).to.equal(0);
  });

  for (const form of ['json', 'html']) {
    it(`believes the ${form} report of the store whose key is known`, async () => {
      const { code, stdout } = await hvdr(
        'verify-report',
        `${reports}.${form}`,
        '--public-key',
        'store.pub',
      );
      expect(stdout).to.contain('drill of SQL01 at 2026-01-01T12:00:00.000Z: passed');
      expect(code).to.equal(0);
    });

    it(`warns when nobody says whose key signed the ${form} report`, async () => {
      const { code, stdout } = await hvdr('verify-report', `${reports}.${form}`);
      expect(stdout).to.contain('give --public-key FILE');
      expect(code).to.equal(3);
    });

    it(`refuses a changed ${form} report`, async () => {
      const text = files.content(`${reports}.${form}`)?.toString() ?? '';
      files.put('/changed', Buffer.from(text.replaceAll('SQL01', 'SQL02')));
      const { code, stderr } = await hvdr('verify-report', 'changed', '--public-key', 'store.pub');
      expect(stderr).to.contain('E_FILE_DAMAGED');
      expect(code).to.equal(15);
    });
  }

  it('refuses a report that another key signed', async () => {
    const forged = signReport({ ...SAMPLE_REPORT }, generateKeyPairSync('ed25519'));
    files.put('/forged.json', Buffer.from(reportText(forged)));
    const { code, stderr } = await hvdr(
      'verify-report',
      'forged.json',
      '--public-key',
      'store.pub',
    );
    expect(stderr).to.contain('signed with another key');
    expect(code).to.equal(1);
  });

  it('refuses a file that is no public key, and files that are not there', async () => {
    files.put('/odd.pub', Buffer.from('x'));
    const odd = await hvdr('verify-report', `${reports}.json`, '--public-key', 'odd.pub');
    expect(odd.code).to.equal(41);
    expect((await hvdr('verify-report', 'nowhere.json')).code).to.equal(16);
    expect((await hvdr('public-key', '--store', 'nowhere')).code).to.equal(16);
  });

  it('prints the same key each time, and replaces no file', async () => {
    const first = await hvdr('public-key', '--store', 'store');
    const second = await hvdr('public-key', '--store', 'store');
    expect(first.stdout).to.match(/^-----BEGIN PUBLIC KEY-----/);
    expect(second.stdout).to.equal(first.stdout);
    expect((await hvdr('public-key', '--store', 'store', '--out', 'store.pub')).code).to.equal(33);
  });

  it('writes the report that came from the receiver as the file name wants it', async () => {
    const text = files.content(`${reports}.json`)?.toString() ?? '';
    // of a context these two calls use what stands here
    const context = { files, folder: '/', random } as unknown as CliContext;
    await writeReportFile(context, 'mine.json', text);
    await writeReportFile(context, 'mine.html', text);
    expect(files.content('/mine.json')?.toString()).to.equal(text);
    expect(files.content('/mine.html')).to.deep.equal(files.content(`${reports}.html`));
    expect((await refusal(() => reserveReportFile(context, 'mine.pdf'))).code).to.equal('E_USAGE');
    expect((await refusal(() => reserveReportFile(context, 'mine.json'))).code).to.equal(
      'E_EXISTS',
    );
    const forged = text.replace('passed', 'failed');
    const refused = await refusal(() => writeReportFile(context, 'forged.json', forged));
    expect(refused.code).to.equal('E_FILE_DAMAGED');
  });
});
