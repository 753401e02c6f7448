// What is known of cmdlets, classes and types: the part of the collection of recorded facts that the scripts name.

export interface Facts {
  /** Where the facts are from: repository and commit. */
  readonly sources: readonly unknown[];
  readonly entries: readonly FactEntry[];
}

export interface FactEntry {
  readonly kind: string;
  readonly name: string;
  readonly namespace?: string;
  /** Of a type: name → type; of a class: name → {type, values}. */
  readonly properties?: Readonly<Record<string, string | PropertyFact>>;
  readonly methods?: Readonly<Record<string, MethodFact>>;
  readonly params?: Readonly<Record<string, { readonly type: string }>>;
  readonly values?: Readonly<Record<string, number>> | readonly string[];
  readonly source?: unknown;
}

export interface PropertyFact {
  readonly type: string;
  readonly values?: Readonly<Record<string, number>>;
}

export interface MethodFact {
  readonly in: Readonly<Record<string, string>>;
  readonly out: Readonly<Record<string, string>>;
  readonly paramValues?: Readonly<Record<string, Readonly<Record<string, number>>>>;
}

const PS = 'Microsoft.HyperV.PowerShell.';

/** Looks up, and notes every entry that was asked for. */
export class FactBook {
  readonly #entries = new Map<string, FactEntry>();
  readonly asked = new Set<string>();

  constructor(...books: readonly Facts[]) {
    for (const entry of books.flatMap(({ entries }) => entries))
      this.#entries.set(`${entry.kind} ${entry.name}`, entry);
  }

  find(kind: string, name: string): FactEntry | undefined {
    const key = `${kind} ${name}`;
    const entry = this.#entries.get(key);
    if (entry !== undefined) this.asked.add(key);
    return entry;
  }

  cmdlet(name: string): FactEntry | undefined {
    return this.find('ps-cmdlet', name);
  }

  wmiClass(name: string): FactEntry | undefined {
    return this.find('wmi-class', name);
  }

  /** By its full name or by the last part of it. */
  psType(name: string): FactEntry | undefined {
    return this.find('ps-type', name.includes('.') ? name : PS + name);
  }

  psEnum(type: string): readonly string[] | undefined {
    const short = type.replace(/^System\.Nullable<(.*)>$/, '$1').replace(/\[\]$/, '');
    const values = this.find('ps-enum', short.includes('.') ? short : PS + short)?.values;
    return values === undefined ? undefined : Object.keys(values);
  }

  /** Numbers of an enumeration of WMI, by their names. */
  wmiEnum(name: string): Readonly<Record<string, number>> {
    const values = this.find('wmi-enum', name.replace(/\[\]$/, ''))?.values ?? {};
    return Array.isArray(values) ? {} : (values as Readonly<Record<string, number>>);
  }

  /** Texts that a property of WMI can be. */
  wmiTexts(property: string): readonly string[] | undefined {
    const values = this.find('wmi-enum', property)?.values;
    return values === undefined ? undefined : Object.keys(values);
  }

  /** Out parameters of all methods, with their types. */
  outParameters(): Readonly<Record<string, string>> {
    const methods = [...this.#entries.values()].flatMap((entry) =>
      Object.values(entry.methods ?? {}),
    );
    return Object.assign({}, ...methods.map(({ out }) => out)) as Record<string, string>;
  }

  get commonParameters(): readonly string[] {
    const values = this.find('ps-common-parameters', 'common')?.values ?? [];
    return Array.isArray(values) ? (values as readonly string[]) : [];
  }
}

/** Only what was asked for, and of classes only what the scripts can check against. */
export function trimFacts(whole: Facts, asked: ReadonlySet<string>): Facts {
  const entries = whole.entries
    .filter(({ kind, name }) => asked.has(`${kind} ${name}`))
    .map(({ kind, name, namespace, properties, methods, params, values, source }) => ({
      kind,
      name,
      ...(namespace === undefined ? {} : { namespace }),
      ...(properties === undefined ? {} : { properties: mapValues(properties, trimProperty) }),
      ...(methods === undefined ? {} : { methods: mapValues(methods, trimMethod) }),
      ...(params === undefined ? {} : { params: mapValues(params, ({ type }) => ({ type })) }),
      ...(values === undefined ? {} : { values }),
      ...(source === undefined ? {} : { source }),
    }));
  return { sources: whole.sources, entries };
}

function mapValues<A, B>(
  record: Readonly<Record<string, A>>,
  map: (value: A) => B,
): Record<string, B> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, map(value)]));
}

function trimProperty(fact: string | PropertyFact): string | PropertyFact {
  if (typeof fact === 'string') return fact;
  const { type, values } = fact;
  return values === undefined ? { type } : { type, values };
}

function trimMethod({ in: input, out, paramValues }: MethodFact): MethodFact {
  return { in: input, out, ...(paramValues === undefined ? {} : { paramValues }) };
}
