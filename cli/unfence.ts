// `hvdr unfence`: an operator at the primary lifts a fence by force, when the DR site that set it cannot
// say any more that the primary is active.

import type { Command } from 'commander';
import { DrError } from '../shared/errors.js';
import type { SourceHypervisor, VmSummary } from '../shared/hypervisor/index.js';
import { presentStateFolder, requireNoFailback, strangeFence } from '../source-agent/index.js';
import type { CliContext } from './context.js';
import { findVmAt } from './site-host.js';
import { type SourceFlags, withSource } from './verify-source.js';

interface Flags extends SourceFlags {
  readonly force?: true;
  readonly reason?: string;
  readonly yes?: true;
  readonly duringFailback?: true;
}

const MEANING =
  'The VM can be started here again, with the network that it had. What the DR site thinks of it stays as it\n' +
  'is: while that site is the active one it refuses the cycles of this VM, and when both run, people have to\n' +
  'decide which one is kept (`hvdr resolve`). Where the DR site answers, undo the failover or fail back there.';

export function registerUnfence(program: Command, context: CliContext): void {
  program
    .command('unfence')
    .summary('lift the fence of a VM at the primary site by force')
    .description(
      `A VM that serves at the DR site is fenced at the primary: nobody starts it there. ${MEANING}`,
    )
    .argument('<vm>', 'name or id of the VM')
    .requiredOption('--host <host>', 'hypervisor of the primary site: lab:DIR or hyperv')
    .option('--state-dir <dir>', 'where the ledgers of the source are')
    .option('--force', 'without the word of the DR site')
    .option('--reason <text>', 'why; it is logged')
    .option(
      '--during-failback',
      'although a failback of the VM is open, which then has to compare its disks again',
    )
    .option('--yes', 'do it')
    .addHelpText(
      'after',
      "\nExample:\n  hvdr unfence SQL01 --host lab:site-a --force --reason 'the DR site burnt down' --yes\n",
    )
    .action((vm: string, flags: Flags) => unfence(context, vm, flags));
}

async function unfence(context: CliContext, vmName: string, flags: Flags): Promise<void> {
  const { force, yes } = flags;
  const reason = (flags.reason ?? '').trim();
  if (force !== true || reason === '') {
    throw new DrError('E_USAGE', 'a fence is lifted here by force only, and that wants a reason', {
      hint: 'Give --force --reason TEXT, or undo the failover at the DR site, which lifts it.',
    });
  }
  const lift = async (hypervisor: SourceHypervisor, stateFolder: string): Promise<void> => {
    const vm = await findVmAt(hypervisor, vmName);
    const epoch = await fenceEpoch(hypervisor, vm);
    if (flags.duringFailback !== true) {
      await requireNoFailback(vm, stateFolder, { fs: context.files, random: context.random });
    }
    if (yes !== true) {
      throw new DrError(
        'E_CONFIRM',
        `${vm.name} stays fenced, since epoch ${epoch}, until --yes is given`,
        { hint: MEANING },
      );
    }
    await hypervisor.unfenceVm(vm.id);
    const log = await context.log();
    log.warn('fence.forced', { vmId: vm.id, vmName: vm.name, epoch, reason });
    context.output.result({ vm: vm.name, vmId: vm.id, epoch: epoch.toString(), reason }, () =>
      [`${vm.name} is not fenced any more; the fence was of epoch ${epoch}`, MEANING].join('\n'),
    );
  };
  await withSource(context, flags, lift, presentStateFolder);
}

/** @throws DrError E_STATE when it has no fence, or one that is not of its own protection */
async function fenceEpoch(hypervisor: SourceHypervisor, vm: VmSummary): Promise<bigint> {
  const fence = await hypervisor.fenceOf(vm.id);
  if (fence === undefined) {
    throw new DrError('E_STATE', `${vm.name} is not fenced at ${hypervisor.name}`, {
      context: { vmId: vm.id },
      done: 'nothing was changed',
    });
  }
  if (fence.tag.protectionId !== vm.id) throw strangeFence(vm, fence.tag.protectionId);
  return fence.epoch;
}
