// What is known of cmdlets, classes and types, and of the calls of Windows: the part of the collection of recorded facts
// that the scripts and the binding of virtdisk.dll name.

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
  readonly value?: number | string;
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

export interface StructFact {
  readonly size: number;
  /** A member of a union or of an inner structure by its whole name: `Version1.RWDepth`. */
  readonly members: Readonly<Record<string, { readonly offset: number; readonly size: number }>>;
}

export interface FunctionFact {
  readonly dll: string;
  readonly returns: string;
  readonly params: readonly { readonly name: string; readonly type: string }[];
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

  struct(name: string): StructFact | undefined {
    return this.find('win32-struct', name) as unknown as StructFact | undefined;
  }

  function(name: string): FunctionFact | undefined {
    return this.find('win32-function', name) as unknown as FunctionFact | undefined;
  }

  /** A number or a GUID: of an enumeration, or one that stands alone. */
  constant(name: string, enumeration?: string): number | string | undefined {
    if (enumeration === undefined) return this.find('win32-constant', name)?.value;
    const values = this.find('win32-enum', enumeration)?.values;
    return values === undefined || Array.isArray(values)
      ? undefined
      : (values as Readonly<Record<string, number>>)[name];
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
    .map((entry) => (entry.kind.startsWith('win32-') ? entry : trimEntry(entry)));
  return { sources: whole.sources, entries };
}

function trimEntry(entry: FactEntry): FactEntry {
  const { kind, name, namespace, properties, methods, params, values, source } = entry;
  return {
    kind,
    name,
    ...(namespace === undefined ? {} : { namespace }),
    ...(properties === undefined ? {} : { properties: mapValues(properties, trimProperty) }),
    ...(methods === undefined ? {} : { methods: mapValues(methods, trimMethod) }),
    ...(params === undefined ? {} : { params: mapValues(params, ({ type }) => ({ type })) }),
    ...(values === undefined ? {} : { values }),
    ...(source === undefined ? {} : { source }),
  };
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
