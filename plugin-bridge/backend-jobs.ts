// Which function does which job of Bacula.

import type { JobFunctions, JobPorts } from './backend.js';
import { openConversion } from './convert/index.js';
import { runAsyncHvr } from './jobs/async-hvr.js';
import { runBackup } from './jobs/backup.js';
import { runDaemon } from './jobs/daemon.js';
import { runDirectPush, runSeed } from './jobs/direct-push.js';
import { operationJob } from './jobs/operation.js';
import { runRctPush } from './jobs/rct-push.js';
import { runReceiver } from './jobs/receiver.js';
import { runReplicationStatus } from './jobs/replication-status.js';
import { runReprotect } from './jobs/reprotect.js';
import { runVerify } from './jobs/verify.js';
import { openRestore } from './restore/index.js';

export const JOB_FUNCTIONS: JobFunctions = {
  modes: {
    backup: runBackup,
    'rct-push': (job, values, sink, ports) =>
      (values.push_apply_remote ? runDirectPush : runRctPush)(job, values, sink, ports),
    verify: runVerify,
    'async-hvr': runAsyncHvr,
    seed: runSeed,
    'replication-status': runReplicationStatus,
    'failover-planned': operationJob('failover-planned'),
    'failover-unplanned': operationJob('failover-unplanned'),
    'failover-test': operationJob('failover-test'),
    'failover-undo': operationJob('failover-undo'),
    'failover-permanent': operationJob('failover-permanent'),
    failback: operationJob('failback'),
    reprotect: runReprotect,
    daemon: runDaemon,
    receiver: runReceiver,
  },
  openRestore: (job, values, ports) => {
    const host = (): Promise<JobPorts['hypervisor']> => Promise.resolve(ports.hypervisor);
    const { files: fs, random, restoreRoots: roots, signal, say } = ports;
    const isForeign = job.namespace !== '@hyperv';
    if (isForeign && values.restore_to !== 'files') {
      const conversion = openConversion(job, values, { fs, random, roots, host, signal, say });
      return Promise.resolve(conversion);
    }
    return openRestore(job, values, {
      fs,
      clock: ports.clock,
      random,
      stateFolder: ports.stateFolder,
      roots,
      host,
      say,
    });
  },
};
