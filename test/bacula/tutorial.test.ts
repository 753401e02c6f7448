// docs/bacula-tutorial.md from top to bottom, in a real Bacula: its commands, the files of deploy/bacula as
// they are, and what the page shows. Only the schedules are taken out, so that no job begins by the hour.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { BaculaSite, needBacula } from '../support/bacula-site.js';
import { checkoutFolder } from '../support/checkout.js';
import { findTool, needTool } from '../support/need.js';
import { readPage, runPage } from '../support/page.js';
import { WorkFolder } from '../support/work-folder.js';

const PAGE = 'bacula-tutorial.md';
const COPIED = 'cp -r /opt/podheitor/deploy/bacula /etc/bacula/hyperv\n';
const UNSCHEDULED = "sed -i '/^  Schedule = /d' /etc/bacula/hyperv/*.conf\n";

describe(PAGE, function () {
  this.timeout(600_000);
  let work: WorkFolder;
  let site: BaculaSite;

  before(async function () {
    needBacula(this);
    needTool(this, 'gcc');
    work = new WorkFolder('bacula-tutorial');
    for (const name of ['srv', 'var', 'page']) mkdirSync(work.file(name));
    site = await BaculaSite.create({
      resources: '',
      environment: { HVDR_BACKEND_CONF: work.file('etc/backend.conf') },
    });
    await site.start();
  });

  after(async () => {
    await (site as BaculaSite | undefined)?.close();
    (work as WorkFolder | undefined)?.dispose();
  });

  /** Where things of the page lie in this test. */
  function named(script: string): string {
    const places = {
      '/usr/lib/bacula': site.pluginFolder,
      '/etc/bacula': site.folder,
      '/etc/podheitor': work.file('etc'),
      '/var/lib/podheitor': work.file('var/podheitor'),
      '/opt/podheitor': checkoutFolder,
      '/srv': work.file('srv'),
    };
    let text = script.replace(COPIED, COPIED + UNSCHEDULED);
    for (const [page, own] of Object.entries(places)) text = text.replaceAll(page, own);
    return text;
  }

  it('does what it says', async () => {
    expect(
      readPage(PAGE)
        .map(({ script }) => script)
        .join(''),
    ).to.contain(COPIED);
    const ran = runPage(PAGE, work.file('page'), {
      named,
      programs: {
        bconsole: `exec '${findTool('bconsole') ?? ''}' -n -c '${join(site.folder, 'bconsole.conf')}' "$@"`,
        node: `exec '${process.execPath}' "$@"`,
      },
      instead: (script) => (script === 'systemctl restart bacula-fd\n' ? restarted() : undefined),
    });
    await ran.catch(async (error: unknown) => {
      const [last] = (await site.catalog.jobs()).slice(-1);
      const log = last === undefined ? '' : await site.catalog.log(last.jobId);
      const what = error instanceof Error ? error.message : String(error);
      throw new Error(`${what}\nthe newest job said:\n${log}`, { cause: error });
    });
    const jobs = await site.catalog.jobs();
    expect(
      jobs.map(
        ({ name, type, level, status, errors }) => `${name} ${type}${level} ${status}${errors}`,
      ),
    ).to.deep.equal([
      'HyperV-Daily BF T0',
      'HyperV-Daily BI T0',
      'HyperV-Rct BF T0',
      'HyperV-Rct BI T0',
      'HyperV-Restore RF T0',
      'HyperV-Direct BF T0',
      'HyperV-Direct BI T0',
      'HyperV-Drill BF T0',
    ]);
  });

  async function restarted(): Promise<void> {
    await site.daemons.fd.end('SIGTERM');
    await site.restart('fd');
  }
});
