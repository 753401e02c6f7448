// `mode=async-hvr` against the model of two hosts: what the job says, when it alarms, and what it begins.

import { expect } from 'chai';
import { JOB_FUNCTIONS } from '../../../../plugin-bridge/backend-jobs.js';
import type { JobPorts } from '../../../../plugin-bridge/backend.js';
import type { JobInfo } from '../../../../plugin-bridge/job-info.js';
import { authorised } from '../../../../plugin-bridge/backend-authority.js';
import { parseBackendConf } from '../../../../plugin-bridge/backend-conf.js';
import type { SourceHypervisor, VmSummary } from '../../../../shared/hypervisor/index.js';
import { parsePluginString, resolveParameters } from '../../../../shared/params/index.js';
import { BackupVolume } from '../../../support/backup-volume.js';
import { FakeClock } from '../../../support/fake-clock.js';
import { MemoryFileSystem } from '../../../support/memory-file.js';
import { refusal } from '../../../support/refusal.js';
import { ReplicaPair, type ReplicaSide, VM } from '../../../support/replica/pair.js';

const JOB: JobInfo = {
  ...{ name: 'watch', jobId: 1, type: 'B', level: 'F', sinceSeconds: undefined },
  ...{ prevJobName: '', where: '', regexWhere: '', replace: undefined },
  ...{ namespace: '@hyperv', isAccurate: false, workingFolder: undefined },
};

/** The job at one side, some seconds after what was replicated last. */
async function watch(
  side: ReplicaSide | undefined,
  line: string,
  afterSeconds = 60,
): Promise<BackupVolume> {
  const volume = new BackupVolume();
  const clock = new FakeClock(Date.UTC(2026, 0, 1) + afterSeconds * 1000);
  const vms: readonly VmSummary[] = [{ id: VM, name: 'SQL01', powerState: 'running' }];
  // the job asks the host for its name, its VMs and what replicates them, and for nothing else
  const hypervisor = {
    name: 'hyperv',
    listVms: () => Promise.resolve(vms),
    replica: side?.host(clock),
  } as unknown as SourceHypervisor;
  const { values } = resolveParameters(parsePluginString(`podheitor-hyperv: ${line}`).given);
  // the job uses these two of its ports
  const ports = { hypervisor, clock } as unknown as JobPorts;
  await JOB_FUNCTIONS.modes['async-hvr']?.(JOB, values, volume, ports);
  return volume;
}

const said = (volume: BackupVolume): string => volume.said.join('\n');

describe('a job of mode=async-hvr', () => {
  it('says how each VM stands, and keeps that as a file', async () => {
    const volume = await watch(ReplicaPair.replicating().primary, '');
    expect(said(volume)).to.contain(
      'info: SQL01: PROTECTED (Replicating), primary of hv1.example → hv2.example, replicated 60 s ago',
    );
    const text = volume.files.get('.meta/hvr-status.json')?.toString() ?? '';
    expect(JSON.parse(text)).to.have.nested.property('vms[0].health', 'ok');
  });

  it('alarms when the RPO does not hold, and warns before', async () => {
    const { primary } = ReplicaPair.replicating();
    expect(said(await watch(primary, 'rpo_seconds=900', 800))).to.match(
      /^warning: SQL01.*RPO 900 s$/m,
    );
    expect(said(await watch(primary, 'rpo_seconds=900', 901))).to.match(
      /^error: SQL01.*RPO 900 s$/m,
    );
    const red = await refusal(() => watch(primary, 'rpo_seconds=900 on_partial=fail', 901));
    expect(red.code).to.equal('E_PARTIAL');
    expect(red.message).to.contain('SQL01');
  });

  it('calls a state that nobody knows critical, and a failed-over VM a warning', async () => {
    const pair = ReplicaPair.replicating();
    Object.assign(pair.primary.relation ?? {}, { state: '22' });
    expect(said(await watch(pair.primary, ''))).to.contain('error: SQL01: HALTED (unknown(22))');
    Object.assign(pair.replica.relation ?? {}, { state: 'FailedOverWaitingCompletion' });
    expect(said(await watch(pair.replica, ''))).to.match(/^warning: SQL01: FAILED_OVER/m);
  });

  it('begins a replication only where it is told to whom, and only once', async () => {
    const pair = new ReplicaPair();
    expect(said(await watch(pair.primary, ''))).to.contain(
      'error: SQL01: Hyper-V does not replicate it',
    );
    expect(pair.primary.trace).to.deep.equal([]);
    expect(said(await watch(pair.primary, 'hvr_server=hv2'))).to.contain(
      'info: SQL01: first copy  begin the first copy, over the network',
    );
    await watch(pair.primary, 'hvr_server=hv2');
    expect(pair.primary.trace).to.deep.equal(['replica.enable', 'replica.startInitial']);
  });

  it('leaves a replication alone that goes elsewhere or was failed over', async () => {
    const pair = ReplicaPair.replicating();
    await watch(pair.primary, 'hvr_server=hv3');
    Object.assign(pair.replica.relation ?? {}, { state: 'FailedOverWaitingCompletion' });
    await watch(pair.replica, 'hvr_server=hv3');
    expect([...pair.primary.trace, ...pair.replica.trace]).to.deep.equal([]);
  });

  it('is refused by a host that has no replication of its own, before anything is done', async () => {
    const error = await refusal(() => watch(undefined, ''));
    expect(error.code).to.equal('E_HYPERVISOR');
    expect(error.hint).to.contain('--host hyperv');
    const wrong = await refusal(() =>
      watch(new ReplicaPair().primary, 'hvr_server=hv2 hvr_authentication=certificate'),
    );
    expect(wrong.code).to.equal('E_PARAMETER');
  });

  it('sends no VM to a host that backend.conf does not list', async () => {
    const conf = (receivers: string) =>
      parseBackendConf(
        ['host=hyperv', 'modes=async-hvr', `receivers=${receivers}`].join('\n'),
        'backend.conf',
      );
    const ask = async (receivers: string, words: string) => {
      const { given } = parsePluginString(`podheitor-hyperv: mode=async-hvr ${words}`);
      return authorised(given, conf(receivers), { fs: new MemoryFileSystem(), isRestore: false });
    };
    const refused = await refusal(() => ask('dr1', 'hvr_server=elsewhere'));
    expect(refused.line).to.contain('this receiver is not allowed on this host');
    await ask('dr1', 'hvr_server=dr1');
    await ask('dr1:80', 'hvr_server=dr1');
    await refusal(() => ask('dr1:80', 'hvr_server=dr1 hvr_port=8080'));
  });
});
