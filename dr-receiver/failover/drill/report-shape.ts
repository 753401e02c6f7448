// Whether a value from outside has the shape of a report. A good signature does not show it: anybody
// can sign anything with a key of his own.

type Shape =
  | 'text'
  | 'whole'
  | 'flag'
  /** Names → texts. */
  | 'texts'
  | { readonly oneOf: readonly string[] }
  | { readonly listOf: Shape }
  | { readonly fields: Readonly<Record<string, Shape>>; readonly optional?: readonly string[] };

const STEP: Shape = { fields: { atMs: 'whole', step: 'text', what: 'text' } };
const CHECK: Shape = {
  fields: {
    check: 'text',
    outcome: { oneOf: ['passed', 'failed', 'skipped'] },
    startedAtMs: 'whole',
    durationMs: 'whole',
    deadlineMs: 'whole',
    words: 'text',
  },
};

const REPORT: Shape = {
  fields: {
    format: 'text',
    formatVersion: 'whole',
    program: 'text',
    kind: { oneOf: ['test', 'planned', 'unplanned'] },
    verdict: { oneOf: ['passed', 'failed'] },
    problem: 'text',
    operationId: 'text',
    storeId: 'text',
    site: 'text',
    by: 'text',
    vm: {
      fields: {
        id: 'text',
        name: 'text',
        instanceName: 'text',
        diskCount: 'whole',
        diskBytes: 'whole',
      },
    },
    point: {
      fields: {
        id: 'text',
        consistentAtMs: 'whole',
        isApplicationConsistent: 'flag',
        ageMs: 'whole',
      },
    },
    startedAtMs: 'whole',
    endedAtMs: 'whole',
    recoveryTimeMs: 'whole',
    rpoTargetMs: 'whole',
    network: { fields: { testNetwork: 'text', ipMap: 'texts' } },
    checks: { listOf: CHECK },
    timeline: { listOf: STEP },
    warnings: { listOf: 'text' },
  },
  optional: ['problem', 'recoveryTimeMs'],
};

/** The first place at which a value is no report; undefined when it is one. */
export function reportFault(value: unknown): string | undefined {
  return faultOf(value, REPORT, 'report');
}

function faultOf(value: unknown, shape: Shape, place: string): string | undefined {
  if (shape === 'text') return typeof value === 'string' ? undefined : place;
  if (shape === 'whole') return Number.isSafeInteger(value) ? undefined : place;
  if (shape === 'flag') return typeof value === 'boolean' ? undefined : place;
  if (shape !== 'texts' && 'oneOf' in shape) {
    return typeof value === 'string' && shape.oneOf.includes(value) ? undefined : place;
  }
  if (shape !== 'texts' && 'listOf' in shape) {
    if (!Array.isArray(value)) return place;
    return firstOf(value.map((item, index) => faultOf(item, shape.listOf, `${place}[${index}]`)));
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return place;
  const entries = Object.entries(value);
  if (shape === 'texts') {
    return firstOf(entries.map(([name, item]) => faultOf(item, 'text', `${place}.${name}`)));
  }
  const { fields, optional = [] } = shape;
  const missing = Object.keys(fields).find(
    (name) => !Object.hasOwn(value, name) && !optional.includes(name),
  );
  if (missing !== undefined) return `${place}.${missing}`;
  return firstOf(
    entries.map(([name, item]) => {
      const field = Object.hasOwn(fields, name) ? fields[name] : undefined;
      return field === undefined ? `${place}.${name}` : faultOf(item, field, `${place}.${name}`);
    }),
  );
}

function firstOf(faults: readonly (string | undefined)[]): string | undefined {
  return faults.find((fault) => fault !== undefined);
}
