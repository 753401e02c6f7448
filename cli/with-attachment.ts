// A command of the primary site that needs this site's own agent, such as a planned failover: while the
// command runs, its VM is attached with everything allowed, because whoever runs it decides here.

import { DrError } from '../shared/errors.js';
import type { ParameterValues } from '../shared/params/index.js';
import { AttachedAgent, Ports } from '../source-agent/index.js';
import type { CliContext } from './context.js';

/**
 * Runs `work` while the VM that `values.vm` names is attached to the receiver that they name. The agent
 * takes the orders that `work` brings about, and is gone afterwards.
 * @throws DrError E_NO_MATCH, what reaching the receiver throws, what `work` throws
 */
export async function withAttachment<T>(
  context: CliContext,
  values: ParameterValues,
  work: () => Promise<T>,
): Promise<T> {
  const { files: fs, clock, random } = context;
  const log = await context.log();
  const ports = new Ports(context);
  const stop = new AbortController();
  const signal = AbortSignal.any([stop.signal, context.stopSignal()]);
  let running: Promise<void> | undefined;
  try {
    const jobs = await ports.jobs([{ name: 'command', values }]);
    for (const { hypervisor, vmPattern, link } of jobs) {
      const vms = await hypervisor.listVms();
      if (!vms.some(({ name }) => name.toLowerCase() === vmPattern.toLowerCase())) {
        throw new DrError('E_NO_MATCH', `${hypervisor.name} has no VM ${vmPattern}`);
      }
      // what cannot work at all is told at once
      const connection = await link.connection();
      const agent = new AttachedAgent(
        { link, jobs, isAtCommand: true },
        { fs, clock, random, log, signal },
      );
      running = agent.run();
      if (connection.site !== undefined) await Promise.race([agent.attached, running]);
    }
    return await work();
  } finally {
    stop.abort();
    await running;
    await ports.close();
  }
}
