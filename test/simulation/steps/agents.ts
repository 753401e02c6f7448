// What is done with agents at the source.

import { STATE_FOLDER } from '../world.js';
import { siteSubset, type StepKind } from './step.js';

const AGENTS_MAX = 3;

export const AGENT_STEPS: readonly StepKind[] = [
  {
    name: 'agent starts',
    weight: 16,
    run: ({ world, random }) => {
      if (world.agents.size >= AGENTS_MAX) return;
      world.startAgent(siteSubset(world, random), random.between(1, 3), random.between(1, 4));
    },
  },
  {
    name: 'agents work on',
    weight: 14,
    run: async ({ world }) => {
      await world.runUntil(() => world.agents.size === 0, 'the work of the agents');
    },
  },
  {
    name: 'agent killed',
    weight: 4,
    isOptional: true,
    run: ({ world, random }) => {
      const [agent] = world.agents;
      if (agent !== undefined && random.chance(0.9)) agent.process.end();
    },
  },
  {
    name: 'agent stopped',
    weight: 2,
    isOptional: true,
    run: ({ world }) => {
      for (const { stop } of world.agents) stop.abort(new Error('an operator stops the agent'));
    },
  },
  {
    name: 'ledger lost',
    weight: 1,
    isOptional: true,
    run: async ({ world, random }) => {
      if (world.agents.size + world.tools.size > 0) return;
      const vm = world.pickVm(random);
      const { volume } = world.source;
      world.excusedLedgers.add(vm.id);
      for (const path of volume.paths.filter((each) => each.includes(vm.id))) {
        if (!path.endsWith('.lock')) await volume.remove(path);
      }
      if (volume.paths.length > 0) await volume.flushFolder(STATE_FOLDER);
    },
  },
  {
    name: 'state folder goes back to an older copy',
    weight: 3,
    isOptional: true,
    run: ({ world, random }) => {
      if (world.agents.size + world.tools.size > 0) return;
      const copy = world.stateCopies[random.int(world.stateCopies.length + 1)];
      world.stateCopies.push(world.source.volume.survivors(0, 'all'));
      if (copy === undefined) return;
      world.source.replaceVolume(copy);
      for (const { id } of world.host.vms) world.excusedLedgers.add(id);
    },
  },
];
