// Checks a script against the recorded facts: every cmdlet and parameter, every class, association, property, method
// and argument of WMI, every property of an object of a cmdlet, every value of an enumeration. It follows what each
// variable holds; a member of something that it cannot follow is a finding too, so nothing is left out in silence.

import type { Node } from 'web-tree-sitter';
import type { FactBook, FactEntry, PropertyFact } from './facts.js';
import { childOf, childrenOf, inner, literalOf, nodesOf, syntaxErrors } from './syntax.js';

/** A name of Windows in a script: each of them is wrong when one of its letters is. */
export interface UsedName {
  readonly text: string;
  readonly start: number;
}

export interface ScriptFacts {
  readonly findings: string[];
  readonly used: UsedName[];
  readonly functions: Map<string, FunctionFacts>;
}

export interface FunctionFacts {
  /** Names of $Arguments.x. */
  readonly args: Set<string>;
  /** Keys of what it answers. */
  readonly keys: Set<string>;
  /** Functions of ours that it calls. */
  readonly calls: Set<string>;
}

/** `wmi X`, `ps X`, `class X` (a CimClass), `arguments`, `hash`, or `net`: an object of .NET or of ours. */
type Type = string;

/** In all scripts a parameter of a function of ours means one thing. */
const PARAMETERS: Readonly<Record<string, Type>> = {
  Arguments: 'arguments',
  Request: 'request',
  Vm: 'ps VirtualMachine',
  System: 'wmi Msvm_ComputerSystem',
  Settings: 'wmi Msvm_VirtualSystemSettingData',
  Port: 'wmi Msvm_SyntheticEthernetPortSettingData',
  Components: 'wmi Msvm_KvpExchangeComponent',
  Job: 'wmi Msvm_ConcreteJob',
};

/** What cmdlets give; the collection of facts has their parameters only. */
const CMDLET_TYPES: Readonly<Record<string, Type>> = {
  'Get-VM': 'ps VirtualMachine',
  'New-VM': 'ps VirtualMachine',
  'Get-VMHardDiskDrive': 'ps HardDiskDrive',
  'Get-VMNetworkAdapter': 'ps VMNetworkAdapter',
  'Add-VMNetworkAdapter': 'ps VMNetworkAdapter',
  'Get-VMNetworkAdapterVlan': 'ps VMNetworkAdapterVlanSetting',
  'Get-VMSwitch': 'ps VMSwitch',
  'Get-VMFirmware': 'ps VMFirmware',
  'Get-VMSecurity': 'ps VMSecurity',
  'Get-VMHost': 'ps VMHost',
  'Get-VMHostSupportedVersion': 'ps VMHostSupportedVersion',
  'Get-VHD': 'ps Microsoft.Vhd.PowerShell.VirtualHardDisk',
  'Get-VMReplication': 'ps VMReplication',
  'Measure-VMReplication': 'ps VMReplicationHealth',
  'Get-VMSnapshot': 'ps VMSnapshot',
  'Checkpoint-VM': 'ps VMSnapshot',
};

/** Types that the collection does not have, with the members that the scripts use (hyperv.md § 3.2, § 3.6). */
const OTHER_TYPES: Readonly<Record<string, Readonly<Record<string, Type>>>> = {
  'net ClusterGroup': { Name: 'net', OwnerNode: 'net Named', State: 'net' },
  'net Named': { Name: 'net' },
  'net SecureBootTemplate': { Id: 'net', Name: 'net' },
  'net Service': { Status: 'net' },
  'net Command': { Parameters: 'net' },
};
const OTHER_OUTPUTS: Readonly<Record<string, Type>> = {
  'Get-ClusterGroup': 'net ClusterGroup',
  'Get-Service': 'net Service',
  'Get-Command': 'net Command',
};

/** Members of .NET, of an ErrorRecord, of XML, and of what PowerShell puts around an object. */
const NET_MEMBERS = new Set([
  ...[
    'ToString',
    'ToUpperInvariant',
    'ToUniversalTime',
    'Replace',
    'Split',
    'Substring',
    'Length',
    'Count',
  ],
  ...[
    'ContainsKey',
    'Add',
    'ToArray',
    'Value',
    'Properties',
    'InnerText',
    'SelectSingleNode',
    'Serialize',
  ],
  ...['Exception', 'Message', 'HResult', 'CategoryInfo', 'Category', 'FullyQualifiedErrorId'],
  ...[
    'ReadLine',
    'Write',
    'AutoFlush',
    'PSObject',
    'CimInstanceProperties',
    'GetString',
    'GetBytes',
  ],
  ...['Create', 'None', 'Unicode', 'UTF8', 'ASCII', 'InvariantCulture', 'Min', 'ToBase64String'],
  ...[
    'FromBase64String',
    'OpenStandardInput',
    'OpenStandardOutput',
    'MachineName',
    'OSVersion',
    'Version',
  ],
  ...['IsNullOrEmpty', 'ToUInt32', 'Id'],
]);
/** Members that every object has. */
const OBJECT_MEMBERS = new Set(['ToString', 'Count', 'PSObject']);

const CLASS_PARAMETERS = new Set(['ClassName', 'ResultClassName', 'Association']);

/** Facts of one script. `returns`: what functions of the scripts before give; completed with those of this one. */
export function checkScript(root: Node, book: FactBook, returns: Map<string, Type>): ScriptFacts {
  const checker = new Checker(book, returns);
  checker.findings.push(...syntaxErrors(root));
  if (checker.findings.length === 0) checker.script(root);
  return checker;
}

/** Members that list properties by their names, and the kind of thing that has them. */
const PROPERTY_LISTS: Readonly<Record<string, string>> = {
  CimClassProperties: 'class ',
  CimInstanceProperties: 'wmi ',
};

class Checker implements ScriptFacts {
  readonly findings: string[] = [];
  readonly used: UsedName[] = [];
  readonly functions = new Map<string, FunctionFacts>();
  readonly #book: FactBook;
  readonly #returns: Map<string, Type>;
  /** What variables hold, in the function that is looked at. */
  #variables = new Map<string, Type>();
  /** Literal keys, with their values, that a hash table of a variable gets. */
  #hashes = new Map<string, { key: Node; value: Node | undefined }[]>();
  #current: FunctionFacts | undefined;
  #currentName = '';
  readonly #done = new Set<number>();

  constructor(book: FactBook, returns: Map<string, Type>) {
    this.#book = book;
    this.#returns = returns;
  }

  script(root: Node): void {
    for (const node of nodesOf(root, 'function_statement')) {
      const name = childOf(node, 'function_name')?.text ?? '';
      this.#currentName = name;
      this.#current = { args: new Set(), keys: new Set(), calls: new Set() };
      this.functions.set(name, this.#current);
      this.#variables = new Map();
      this.#hashes = new Map();
      for (const parameter of nodesOf(node, 'script_parameter')) {
        const text = parameter.text.slice(1);
        this.#variables.set(text, PARAMETERS[text] ?? 'net');
      }
      const body = childOf(node, 'script_block');
      if (body !== undefined) this.#walk(body);
    }
    this.#current = undefined;
    this.#currentName = '';
    this.#variables = new Map();
    this.#hashes = new Map();
    for (const child of childrenOf(root)) this.#walk(child);
  }

  #walk(node: Node): void {
    switch (node.type) {
      case 'function_statement':
      case 'param_block':
        return;
      case 'assignment_expression':
        return this.#assignment(node);
      case 'foreach_statement':
        return this.#forEach(node);
      case 'flow_control_statement':
        return this.#flow(node);
      case 'pipeline_chain':
        this.#pipeline(node);
        return;
      case 'comparison_expression':
        this.#comparison(node);
        break;
      case 'command':
        this.#command(node);
        return;
      case 'member_access':
      case 'invokation_expression':
      case 'element_access':
        this.#typeOf(node);
        return;
      case 'hash_entry':
        this.#answerKey(childOf(node, 'key_expression'));
        break;
    }
    for (const child of childrenOf(node)) this.#walk(child);
  }

  #assignment(node: Node): void {
    const value = node.childForFieldName('value');
    const [left] = childrenOf(node);
    if (value === null || left === undefined) return;
    const target = inner(left);
    const hash = nodesOf(value, 'hash_literal_expression').find(
      (found) =>
        inner(value).startIndex === found.startIndex && inner(value).endIndex === found.endIndex,
    );
    if (target.type === 'variable') {
      const name = target.text.slice(1);
      const isAppended = node.text.slice(left.text.length).trimStart().startsWith('+=');
      if (hash !== undefined && !isAppended) {
        this.#hashes.set(name, entriesOf(hash));
        this.#variables.set(name, 'hash');
        for (const { value: item } of entriesOf(hash)) if (item !== undefined) this.#walk(item);
        // whether its keys are an answer or parameters is known when it is used
        return;
      }
      const type = this.#typeOf(value);
      if (!isAppended && name !== 'null') this.#variables.set(name, type);
      return;
    }
    if (target.type === 'element_access') {
      const [base, key] = childrenOf(target);
      const name = base?.text.slice(1) ?? '';
      if (base !== undefined && key !== undefined && literalOf(key) !== undefined) {
        const known = this.#hashes.get(name);
        if (known === undefined) this.#answerKey(key);
        else known.push({ key: inner(key), value });
        this.#typeOf(value);
        return;
      }
    }
    this.#typeOf(target);
    this.#typeOf(value);
    if (target.type === 'member_access') this.#assignedNumber(target, value);
  }

  #forEach(node: Node): void {
    const [variable, list, block] = childrenOf(node);
    if (variable === undefined || list === undefined || block === undefined) return;
    this.#variables.set(variable.text.slice(1), this.#typeOf(list));
    this.#walk(block);
  }

  #flow(node: Node): void {
    const [value] = childrenOf(node);
    if (value === undefined) return;
    const hash = inner(value);
    if (hash.type === 'hash_literal_expression') {
      this.#walk(value);
      return;
    }
    if (node.text.startsWith('return') && hash.type === 'variable') {
      const entries = this.#hashes.get(hash.text.slice(1));
      for (const { key } of entries ?? []) this.#answerKey(key);
    }
    const type = this.#typeOf(value);
    if (node.text.startsWith('return') && type !== 'net' && type !== 'hash') {
      this.#returns.set(this.#currentName, type);
    }
  }

  /** The type of the last command; $_ is what the one before gives. */
  #pipeline(node: Node): Type {
    let type = 'net';
    let isFirst = true;
    for (const child of childrenOf(node)) {
      if (!isFirst) this.#variables.set('_', type);
      const before = type;
      type = this.#typeOf(child);
      const name = childOf(child, 'command_name')?.text;
      if (name === 'Where-Object' || name === 'Sort-Object') type = before;
      isFirst = false;
    }
    this.#variables.delete('_');
    return type;
  }

  #typeOf(node: Node): Type {
    const at = inner(node);
    switch (at.type) {
      case 'variable': {
        const name = at.text.slice(1);
        return this.#variables.get(name) ?? 'net';
      }
      case 'command':
        return this.#command(at);
      case 'member_access':
        return this.#member(at);
      case 'invokation_expression': {
        let type = 'net';
        const [base, member] = childrenOf(at);
        if (base !== undefined && member !== undefined) {
          type = this.#memberOf(this.#typeOf(base), member, at);
        } else if (base !== undefined) this.#typeOf(base);
        for (const child of childrenOf(at).slice(2)) this.#walk(child);
        return type;
      }
      case 'element_access': {
        const [base, ...rest] = childrenOf(at);
        for (const child of rest) this.#walk(child);
        if (base === undefined) return 'net';
        const classType = this.#classProperty(base, rest[0]);
        return classType ?? this.#typeOf(base);
      }
      case 'pipeline_chain':
        return this.#pipeline(at);
      case 'array_expression':
      case 'parenthesized_expression':
      case 'pipeline':
      case 'statement_list': {
        let type = 'net';
        for (const child of childrenOf(at)) type = this.#typeOf(child);
        return type;
      }
      case 'cast_expression':
      case 'expression_with_unary_operator':
      default:
        this.#walkChildren(at);
        return 'net';
    }
  }

  #walkChildren(node: Node): void {
    if (node.type === 'comparison_expression') this.#comparison(node);
    for (const child of childrenOf(node)) this.#walk(child);
  }

  /** `$class.CimClassProperties['X']` and `$instance.CimInstanceProperties['X']` name a property of the class. */
  #classProperty(base: Node, key: Node | undefined): Type | undefined {
    const access = inner(base);
    if (access.type !== 'member_access') return undefined;
    const [object, member] = childrenOf(access);
    if (object === undefined || member === undefined || key === undefined) return undefined;
    const prefix = PROPERTY_LISTS[member.text];
    if (prefix === undefined) return undefined;
    const type = this.#typeOf(object);
    if (!type.startsWith(prefix)) return undefined;
    this.#note(member);
    this.#done.add(member.startIndex);
    const className = type.slice(prefix.length);
    this.#classHasProperty(className, key);
    return 'net';
  }

  #classHasProperty(className: string, key: Node): PropertyFact | undefined {
    const name = literalOf(key) ?? '';
    const fact = this.#book.wmiClass(className)?.properties?.[name] as PropertyFact | undefined;
    this.#demand(fact !== undefined, inner(key), `${className} has no property ${name}`, 1);
    return fact;
  }

  /** `New-CimInstance -CimClass $class -Property @{ 'X' = 1 }` */
  #newInstance(named: ReadonlyMap<Node, Node>): Type {
    const of = valueOf(named, 'CimClass');
    if (of === undefined) return 'net';
    const className = this.#typeOf(of).replace(/^class /, '');
    const hash = valueOf(named, 'Property');
    for (const { key, value } of hash === undefined ? [] : entriesOf(hash)) {
      const fact = this.#classHasProperty(className, key);
      const number = value === undefined ? undefined : numberOf(value);
      if (value === undefined || number === undefined) continue;
      const isKnown = Object.values(fact?.values ?? {}).includes(number);
      this.#demand(isKnown, inner(value), `${literalOf(key) ?? ''} knows no ${number}`, undefined);
    }
    return `wmi ${className}`;
  }

  #member(node: Node): Type {
    const [base, member] = childrenOf(node);
    if (base === undefined || member === undefined) return 'net';
    return this.#memberOf(this.#typeOf(base), member, node);
  }

  #memberOf(type: Type, member: Node, whole: Node): Type {
    const name = member.text;
    if (this.#done.has(member.startIndex)) return this.#memberType(type, name);
    this.#done.add(member.startIndex);
    if (type === 'arguments') {
      this.#current?.args.add(name);
      return 'net';
    }
    if (type === 'request') {
      this.#demand(['id', 'op', 'args'].includes(name), member, `a request has no ${name}`);
      return 'net';
    }
    const other = OTHER_TYPES[type];
    if (other !== undefined) {
      const isKnown = Object.hasOwn(other, name) || OBJECT_MEMBERS.has(name);
      this.#demand(isKnown, member, `${type} has no member ${name}`);
    } else if (type.startsWith('ps ') || type.startsWith('wmi ')) {
      const entry = this.#entryOf(type);
      const isKnown = entry?.properties?.[name] !== undefined || OBJECT_MEMBERS.has(name);
      this.#demand(isKnown, member, `${type} has no property ${name}`);
    } else if (type === 'hash' || type === 'net') {
      this.#demand(
        NET_MEMBERS.has(name),
        member,
        `it is not known what ${whole.text.slice(0, 60)} is`,
      );
    } else {
      this.#demand(false, member, `${type} has no member ${name}`);
    }
    return this.#memberType(type, name);
  }

  #memberType(type: Type, name: string): Type {
    const other = OTHER_TYPES[type]?.[name];
    if (other !== undefined) return other;
    if (!type.startsWith('ps ')) return 'net';
    const property = this.#entryOf(type)?.properties?.[name];
    if (typeof property !== 'string') return 'net';
    if (property.endsWith('.SecureBootTemplate>')) return 'net SecureBootTemplate';
    const short = /^Microsoft\.HyperV\.PowerShell\.(\w+)(\[\])?$/.exec(property)?.[1];
    if (short === undefined || this.#book.psType(short) === undefined) return 'net';
    return `ps ${short}`;
  }

  #entryOf(type: Type): FactEntry | undefined {
    return type.startsWith('ps ')
      ? this.#book.psType(type.slice(3))
      : this.#book.wmiClass(type.slice(4));
  }

  #command(node: Node): Type {
    const nameNode = childOf(node, 'command_name');
    const elements = childOf(node, 'command_elements');
    const { named, switches, splatted } = parametersOf(elements);
    if (nameNode === undefined) {
      // dot-sourcing, and the call of an operation out of the table
      if (elements !== undefined) this.#walk(elements);
      return 'net';
    }
    const name = nameNode.text;
    const type = this.#outputOf(name, named);
    if (this.#done.has(nameNode.startIndex)) return type;
    this.#done.add(nameNode.startIndex);
    if (/^[A-Za-z]+-Hvdr/.test(name)) {
      this.#current?.calls.add(name);
      for (const [parameter, value] of named)
        this.#classArgument(parameter.text.slice(1), value, named);
      if (elements !== undefined) this.#walkArguments(elements);
      return type;
    }
    const cmdlet = this.#book.cmdlet(name);
    this.#demand(cmdlet !== undefined, nameNode, `there is no cmdlet ${name}`);
    const isParameter = (parameter: string): boolean =>
      cmdlet?.params?.[parameter] !== undefined || this.#book.commonParameters.includes(parameter);
    for (const parameter of [...named.keys(), ...switches]) {
      const text = parameter.text.replace(/^-/, '').replace(/:$/, '');
      this.#demand(isParameter(text), parameter, `${name} has no parameter ${text}`, 1);
    }
    for (const [parameter, value] of named) {
      const text = parameter.text.replace(/^-/, '').replace(/:$/, '');
      this.#enumValue(cmdlet, text, value);
      this.#classArgument(text, value, named);
    }
    for (const variable of splatted) {
      for (const { key, value } of this.#hashes.get(variable.text.slice(1)) ?? []) {
        const text = literalOf(key) ?? '';
        this.#demand(isParameter(text), key, `${name} has no parameter ${text}`, 1);
        if (value !== undefined) this.#enumValue(cmdlet, text, value);
      }
    }
    if (name === 'Invoke-CimMethod') this.#method(named);
    else if (name === 'New-CimInstance')
      return type; // its properties are no answer
    else if (elements !== undefined) this.#walkArguments(elements);
    return type;
  }

  #walkArguments(elements: Node): void {
    for (const child of childrenOf(elements))
      if (child.type !== 'command_parameter') this.#typeOf(child);
  }

  #outputOf(name: string, named: ReadonlyMap<Node, Node>): Type {
    const text = (parameter: string): string | undefined => {
      const value = valueOf(named, parameter);
      return value === undefined ? undefined : literalOf(value);
    };
    if (name === 'New-CimInstance') return this.#newInstance(named);
    const className = text('ResultClassName') ?? text('ClassName');
    if (className !== undefined) {
      if (name === 'Get-CimClass') return `class ${className}`;
      if (className === 'CIM_ConcreteJob') return 'wmi Msvm_ConcreteJob';
      return `wmi ${className}`;
    }
    return CMDLET_TYPES[name] ?? OTHER_OUTPUTS[name] ?? this.#returns.get(name) ?? 'net';
  }

  /** Names of classes, associations and of properties in a filter. */
  #classArgument(parameter: string, value: Node, named: ReadonlyMap<Node, Node>): void {
    const literal = literalOf(value);
    if (CLASS_PARAMETERS.has(parameter) && literal !== undefined) {
      const entry = this.#book.wmiClass(literal);
      const isHere = entry?.namespace === 'root\\virtualization\\v2';
      this.#demand(isHere, inner(value), `there is no class ${literal}`, 1);
    }
    const className = literalOf(valueOf(named, 'ClassName') ?? value);
    const filtered = parameter === 'Filter' ? /^"(\w+)=/.exec(inner(value).text)?.[1] : undefined;
    const property = parameter === 'Property' ? literal : filtered;
    if (property === undefined || className === undefined) return;
    const entry = this.#book.wmiClass(className);
    this.#demand(
      entry?.properties?.[property] !== undefined,
      inner(value),
      `${className} has no property ${property}`,
      1,
      property,
    );
  }

  #enumValue(cmdlet: FactEntry | undefined, parameter: string, value: Node): void {
    const literal = literalOf(value);
    const type = cmdlet?.params?.[parameter]?.type;
    if (literal === undefined || type === undefined) return;
    const values = this.#book.psEnum(type);
    if (values === undefined) return;
    this.#demand(values.includes(literal), inner(value), `${parameter} knows no ${literal}`, 1);
  }

  #method(named: ReadonlyMap<Node, Node>): void {
    const target = valueOf(named, 'InputObject');
    const nameNode = valueOf(named, 'MethodName');
    if (target === undefined || nameNode === undefined) return;
    const type = this.#typeOf(target);
    const name = literalOf(nameNode) ?? '';
    const method = this.#book.wmiClass(type.replace(/^wmi /, ''))?.methods?.[name];
    this.#demand(method !== undefined, inner(nameNode), `${type} has no method ${name}`, 1);
    const hash = valueOf(named, 'Arguments');
    if (hash === undefined) return;
    for (const { key, value } of entriesOf(hash)) {
      const argument = literalOf(key) ?? '';
      this.#demand(method?.in[argument] !== undefined, key, `${name} takes no ${argument}`, 1);
      if (value === undefined) continue;
      this.#typeOf(value);
      const number = numberOf(value);
      if (number === undefined || method === undefined) continue;
      const numbers = [
        ...Object.values(method.paramValues?.[argument] ?? {}),
        ...(this.#book.wmiEnum(method.in[argument] ?? '') ?? []),
        ...(this.#book.wmiEnum(`${argument} (observed)`) ?? []),
      ];
      this.#demand(
        numbers.includes(number),
        inner(value),
        `${argument} knows no ${number}`,
        undefined,
      );
    }
  }

  #assignedNumber(target: Node, value: Node): void {
    const number = numberOf(value);
    const [base, member] = childrenOf(target);
    if (number === undefined || base === undefined || member === undefined) return;
    const type = this.#typeOf(base);
    if (!type.startsWith('wmi ')) return;
    const fact = this.#entryOf(type)?.properties?.[member.text] as PropertyFact | undefined;
    const numbers = Object.values(fact?.values ?? {});
    this.#demand(
      numbers.includes(number),
      inner(value),
      `${member.text} knows no ${number}`,
      undefined,
    );
  }

  /** `$x.State.ToString() -eq 'Off'`: the text is a name of the enumeration. */
  #comparison(node: Node): void {
    const [left, right] = childrenOf(node).filter(({ type }) => type !== 'comparison_operator');
    if (left === undefined || right === undefined) return;
    const call = inner(left);
    const literal = literalOf(right);
    if (literal === undefined || call.type !== 'invokation_expression') return;
    const access = childrenOf(call)[0];
    if (access === undefined) return;
    const property = inner(access);
    if (property.type !== 'member_access') return;
    const [base, member] = childrenOf(property);
    if (base === undefined || member === undefined) return;
    const type = this.#typeOf(base);
    if (!type.startsWith('ps ')) return;
    const fact = this.#entryOf(type)?.properties?.[member.text];
    const values = typeof fact === 'string' ? this.#book.psEnum(fact) : undefined;
    if (values === undefined) return;
    this.#demand(values.includes(literal), inner(right), `${member.text} knows no ${literal}`, 1);
  }

  #answerKey(key: Node | undefined): void {
    const text = key === undefined ? undefined : literalOf(key);
    if (text !== undefined) this.#current?.keys.add(text);
  }

  /** `skip`: characters before the name in the text of the node; undefined for what is no name. */
  #demand(isRight: boolean, node: Node, otherwise: string, skip?: number, name?: string): void {
    if (!isRight) this.findings.push(`line ${node.startPosition.row + 1}: ${otherwise}`);
    if (skip === undefined && !/^[A-Za-z]/.test(node.text)) return;
    this.#note(node, skip ?? 0, name);
  }

  #note(node: Node, skip = 0, name?: string): void {
    const text = name ?? /^\w[\w-]*/.exec(node.text.slice(skip))?.[0] ?? '';
    if (text !== '') this.used.push({ text, start: node.startIndex + skip });
  }
}

function entriesOf(hash: Node): { key: Node; value: Node | undefined }[] {
  const body = nodesOf(hash, 'hash_literal_body')[0];
  return (body === undefined ? [] : childrenOf(body)).flatMap((entry) => {
    const key = childOf(entry, 'key_expression');
    return key === undefined ? [] : [{ key: inner(key), value: childrenOf(entry)[1] }];
  });
}

function numberOf(value: Node): number | undefined {
  const digits = /^\[(?:byte|uint16|int|uint32)\](\d+)$/.exec(value.text)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

function valueOf(named: ReadonlyMap<Node, Node>, parameter: string): Node | undefined {
  for (const [node, value] of named) if (node.text === `-${parameter}`) return value;
  return undefined;
}

function parametersOf(elements: Node | undefined): {
  named: Map<Node, Node>;
  switches: Node[];
  splatted: Node[];
} {
  const named = new Map<Node, Node>();
  const switches: Node[] = [];
  const splatted: Node[] = [];
  let open: Node | undefined;
  for (const child of elements === undefined ? [] : childrenOf(elements)) {
    if (child.type === 'command_argument_sep') continue;
    if (child.type === 'command_parameter') {
      if (open !== undefined) switches.push(open);
      open = child;
    } else if (child.text.startsWith('@') && inner(child).type === 'variable') {
      splatted.push(inner(child));
    } else if (open !== undefined) {
      named.set(open, child);
      open = undefined;
    }
  }
  if (open !== undefined) switches.push(open);
  return { named, switches, splatted };
}
