// `mode=reprotect`: a VM that stays at this site is protected towards its former primary. `dr_host` is the
// receiver there, `retired_host` the one of this site, and the hypervisor is that of backend.conf.

import { CatalogNames, vmFolder } from '../../shared/catalog/index.js';
import type { OperatorAccess } from '../../shared/operator/receiver-access.js';
import { DrError } from '../../shared/errors.js';
import { errorDocument, type JsonObject, toJson } from '../../shared/json.js';
import { commandParameters } from '../../shared/operator/commands.js';
import { carryOutReprotect } from '../../shared/operator/reprotect.js';
import {
  type Preparation,
  prepareReprotect,
  reprotectDocument,
  type ReprotectSites,
  reprotectText,
  type ReprotectWish,
} from '../../shared/operator/reprotect-plan.js';
import type { ParameterValues } from '../../shared/params/index.js';
import { type FileSink, outcomeLine, requirePoint, runJobs } from '../../source-agent/index.js';
import type { JobPorts } from '../backend.js';
import type { JobInfo } from '../job-info.js';
import { sendText } from './job-file.js';
import { keyOf, withReceiver, withRetired } from './operator-access.js';
import { surroundingsOf } from './surroundings.js';

const RECORD_FORMAT = 1;

/** One VM, by its name or id. @throws DrError E_PARAMETER, the first refusal, of each step */
export async function runReprotect(
  job: JobInfo,
  values: ParameterValues,
  sink: FileSink,
  ports: JobPorts,
): Promise<void> {
  const wish = wishOf(values, ports);
  const sites = sitesOf(values, ports);
  const prepared = await prepareReprotect(wish, sites);
  for (const line of reprotectText(prepared).split('\n')) {
    sink.say(/^ {2}refused: /.test(line) ? 'warning' : 'info', line);
  }
  const steps: JsonObject[] = [];
  const record = async (end: JsonObject): Promise<void> => {
    const { vmName: name, vmId: id } = prepared;
    const names = new CatalogNames(vmFolder({ id, name }, [{ id, name }]));
    const nowMs = ports.clock.now();
    const document = {
      ...{ format: RECORD_FORMAT, job: job.name, mode: values.mode, vm: name, vmId: id },
      ...{ receiver: wish.formerHost, plan: reprotectDocument(prepared), steps, ...end },
    };
    await sendText(sink, names.operation(nowMs), `${toJson(document, 2)}\n`, nowMs);
  };
  if (values.plan) return record({});
  try {
    const [refused] = prepared.refusals;
    if (refused !== undefined) throw refused;
    const pointId = await carryOut(prepared, wish, { sites, values, sink, ports, steps });
    const { vmName, owner, networkMap } = prepared;
    sink.say(
      'info',
      `${vmName} is protected at ${wish.formerHost} for ${owner}, point ${pointId}; the way home is ` +
        `mode=failover-planned there with replace_retired=yes${networkMap === '' ? '' : ` network_map=${networkMap}`}`,
    );
    await record({ result: { point: pointId, networkMap } });
  } catch (error) {
    if (ports.signal.aborted) return sayStopped(prepared, sink);
    if (error instanceof DrError) await record(errorDocument(error));
    throw error;
  }
}

interface Carried {
  readonly sites: ReprotectSites;
  readonly values: ParameterValues;
  readonly sink: FileSink;
  readonly ports: JobPorts;
  readonly steps: JsonObject[];
}

function carryOut(
  prepared: Preparation,
  wish: ReprotectWish,
  { sites, values, sink, ports, steps }: Carried,
): Promise<string> {
  const { signal, hypervisor, clock } = ports;
  return carryOutReprotect(prepared, wish, {
    ...sites,
    signal,
    onStep: ({ name, what }) => {
      signal.throwIfAborted();
      steps.push({ at: new Date(clock.now()).toISOString(), step: name, what });
      sink.say('info', `${prepared.vmName}: ${name}  ${what}`);
    },
    stage: async (control, request) => {
      for await (const { step } of control.seed(request, { signal })) {
        if (step?.$case === 'done') return;
      }
      throw new DrError('E_PROTOCOL', 'the receiver did not say how the seed ended');
    },
    firstCycle: async ({ vmName, vmId }) => {
      const one = { ...values, vm: vmName, exclude: [], push_cycles: 1, push_apply_remote: true };
      const jobs = [{ name: 'reprotect', values: one, vmId }];
      const report = await runJobs(jobs, surroundingsOf(ports), {
        signal,
        hypervisor,
        onOutcome: (vm, _job, outcome) => {
          sink.say('info', outcomeLine(vm.name, outcome, values.rpo_seconds));
        },
      });
      requirePoint(report, { vmName, vmId, place: wish.formerHost });
    },
  });
}

/** @throws DrError E_PARAMETER */
function wishOf(values: ParameterValues, { parameters }: JobPorts): ReprotectWish {
  const { network_map: networkMap, safety_hold: safetyHold } = commandParameters(
    'reprotect',
    parameters,
  );
  const { vm, principal, dr_host: formerHost = '' } = values;
  if (parameters.texts.vm === undefined || /[*?]/.test(vm)) {
    throw new DrError('E_PARAMETER', 'vm: mode=reprotect is of one VM', {
      context: { parameter: 'vm' },
      hint: 'Give vm=NAME, or the id of the VM.',
    });
  }
  return { vm, seedFrom: 'host', principal, networkMap, safetyHold, formerHost };
}

function sitesOf(values: ParameterValues, ports: JobPorts): ReprotectSites {
  const control = <T>(work: (control: OperatorAccess['control']) => Promise<T>) => {
    return (access: OperatorAccess): Promise<T> => work(access.control);
  };
  return {
    atRetired: (_use, work) => withRetired(values, ports, control(work)),
    atFormer: (work) => withReceiver(values, ports, control(work)),
    principalOfKey: async () => (await keyOf(values, ports)).principal,
    nameHere: async (vmId) => {
      const { hypervisor } = ports;
      const vm = (await hypervisor.listVms()).find(({ id }) => id === vmId);
      if (vm !== undefined) return vm.name;
      throw new DrError(
        'E_NO_MATCH',
        `${hypervisor.name} has no VM ${vmId}, which stays at this site`,
        { context: { vmId }, hint: 'The job belongs to the file daemon of the host that has it.' },
      );
    },
  };
}

/** Every step can be done again. */
function sayStopped({ vmName }: Preparation, sink: FileSink): void {
  sink.say(
    'error',
    `${vmName}: the job was cancelled; what became durable stays, and the same job goes on from there`,
  );
}
