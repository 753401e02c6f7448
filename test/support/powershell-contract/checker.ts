// Checks a script against the recorded facts: every cmdlet and parameter, every class, association, property, method,
// argument and out parameter of WMI, every property of an object of a cmdlet, every fixed value. It follows what each
// variable holds; a member of something that it cannot follow is a finding too, so nothing is left out in silence.

import type { FactBook, FactEntry } from './facts.js';
import {
  CMDLET_TYPES,
  NET_MEMBERS,
  OBJECT_MEMBERS,
  OTHER_OUTPUTS,
  OTHER_TYPES,
  PARAMETERS,
  type Type,
} from './known.js';
import { Notes, type UsedName } from './notes.js';
import { entriesOf, parametersOf, valueOf } from './shapes.js';
import {
  childOf,
  childrenOf,
  inner,
  literalOf,
  type Node,
  nodesOf,
  syntaxErrors,
} from './syntax.js';
import { type Typed, Values } from './values.js';
import { Wmi } from './wmi.js';

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

/** Facts of one script. `returns`: what functions of the scripts before give; completed with those of this one. */
export function checkScript(root: Node, book: FactBook, returns: Map<string, Type>): ScriptFacts {
  const checker = new Checker(book, returns);
  const broken = syntaxErrors(root);
  if (broken.length === 0) checker.script(root);
  const { functions, notes } = checker;
  return { findings: [...broken, ...notes.findings], used: notes.used, functions };
}

/** Members that list properties by their names, and the kind of thing that has them. */
const PROPERTY_LISTS: Readonly<Record<string, string>> = {
  CimClassProperties: 'class ',
  CimInstanceProperties: 'wmi ',
};

/** They take an out parameter of a method by its name. */
const OUT_READERS = new Set(['Get-HvdrOut', 'Get-HvdrOutId']);

class Checker implements Typed {
  readonly notes = new Notes();
  readonly functions = new Map<string, FunctionFacts>();
  readonly #book: FactBook;
  readonly #values: Values;
  readonly #wmi: Wmi;
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
    this.#values = new Values(book, this.notes, this);
    this.#wmi = new Wmi(book, this.notes, this.#values);
  }

  script(root: Node): void {
    this.#values.netTypes(root);
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
        this.#values.comparison(node);
        break;
      case 'command':
        this.#command(node);
        return;
      case 'member_access':
      case 'invokation_expression':
      case 'element_access':
        this.typeOf(node);
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
      if (this.#currentName === '') this.#values.scriptVariable(target, value);
      const named = this.#values.enumOf(value);
      const found = this.typeOf(value);
      const type = named === undefined ? found : `text ${named}`;
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
        this.typeOf(value);
        return;
      }
    }
    this.typeOf(target);
    this.typeOf(value);
    if (target.type === 'member_access') this.#values.assigned(target, value);
  }

  #forEach(node: Node): void {
    const [variable, list, block] = childrenOf(node);
    if (variable === undefined || list === undefined || block === undefined) return;
    this.#variables.set(variable.text.slice(1), this.typeOf(list));
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
    const type = this.typeOf(value);
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
      type = this.typeOf(child);
      const name = childOf(child, 'command_name')?.text;
      if (name === 'Where-Object' || name === 'Sort-Object') type = before;
      isFirst = false;
    }
    this.#variables.delete('_');
    return type;
  }

  typeOf(node: Node): Type {
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
          const of = this.typeOf(base);
          type = this.#memberOf(of, member, at);
          this.#called(of, member.text, at);
        } else if (base !== undefined) this.typeOf(base);
        for (const child of childrenOf(at).slice(2)) this.#walk(child);
        return type;
      }
      case 'element_access': {
        const [base, ...rest] = childrenOf(at);
        for (const child of rest) this.#walk(child);
        if (base === undefined) return 'net';
        const classType = this.#classProperty(base, rest[0]);
        return classType ?? this.typeOf(base);
      }
      case 'pipeline_chain':
        return this.#pipeline(at);
      case 'array_expression':
      case 'parenthesized_expression':
      case 'pipeline':
      case 'statement_list': {
        let type = 'net';
        for (const child of childrenOf(at)) type = this.typeOf(child);
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
    if (node.type === 'comparison_expression') this.#values.comparison(node);
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
    const type = this.typeOf(object);
    if (!type.startsWith(prefix)) return undefined;
    this.notes.demand(true, member, member.text, '');
    this.#done.add(member.startIndex);
    this.#wmi.classHasProperty(type.slice(prefix.length), key);
    return 'net';
  }

  /** A method of an object of .NET that takes a name of Windows. */
  #called(of: Type, name: string, call: Node): void {
    if (this.#done.has(call.id)) return;
    this.#done.add(call.id);
    if (name === 'SelectSingleNode') this.#wmi.errorPath(call);
    if (name !== 'ContainsKey' || !of.startsWith('parameters ')) return;
    const cmdlet = of.slice('parameters '.length);
    for (const node of nodesOf(call, 'argument_list')) {
      const parameter = literalOf(node.namedChildren[0] ?? node) ?? '';
      this.#parameter(cmdlet, parameter, node);
    }
  }

  #member(node: Node): Type {
    const [base, member] = childrenOf(node);
    if (base === undefined || member === undefined) return 'net';
    return this.#memberOf(this.typeOf(base), member, node);
  }

  #memberOf(type: Type, member: Node, whole: Node): Type {
    const name = member.text;
    const demand = (isRight: boolean, otherwise: string): void =>
      this.notes.demand(isRight, member, name, otherwise);
    if (this.#done.has(member.startIndex)) return this.#memberType(type, name);
    this.#done.add(member.startIndex);
    if (type === 'arguments') {
      this.#current?.args.add(name);
      return 'net';
    }
    if (type === 'request') {
      demand(['id', 'op', 'args'].includes(name), `a request has no ${name}`);
      return 'net';
    }
    const other = OTHER_TYPES[type];
    if (other !== undefined) {
      const isKnown = Object.hasOwn(other, name) || OBJECT_MEMBERS.has(name);
      demand(isKnown, `${type} has no member ${name}`);
    } else if (type.startsWith('ps ') || type.startsWith('wmi ')) {
      const entry = this.entryOf(type);
      const isKnown = entry?.properties?.[name] !== undefined || OBJECT_MEMBERS.has(name);
      demand(isKnown, `${type} has no property ${name}`);
    } else if (type.startsWith('command ')) {
      demand(name === 'Parameters', `a command has no ${name}`);
    } else if (/^(?:hash|net|out|parameters|text)\b/.test(type)) {
      demand(NET_MEMBERS.has(name), `it is not known what ${whole.text.slice(0, 60)} is`);
    } else {
      demand(false, `${type} has no member ${name}`);
    }
    return this.#memberType(type, name);
  }

  #memberType(type: Type, name: string): Type {
    const other = OTHER_TYPES[type]?.[name];
    if (other !== undefined) return other;
    if (type.startsWith('command ')) return type.replace('command', 'parameters');
    if (!type.startsWith('ps ')) return 'net';
    const property = this.entryOf(type)?.properties?.[name];
    if (typeof property !== 'string') return 'net';
    if (property.endsWith('.SecureBootTemplate>')) return 'net SecureBootTemplate';
    const short = /^Microsoft\.HyperV\.PowerShell\.(\w+)(\[\])?$/.exec(property)?.[1];
    if (short === undefined || this.#book.psType(short) === undefined) return 'net';
    return `ps ${short}`;
  }

  entryOf(type: Type): FactEntry | undefined {
    return type.startsWith('ps ') ? this.#book.psType(type.slice(3)) : this.#wmi.entry(type);
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
      this.#ownCommand(name, named);
      if (elements !== undefined) this.#walkArguments(elements);
      return type;
    }
    const cmdlet = this.#book.cmdlet(name);
    this.notes.demand(cmdlet !== undefined, nameNode, name, `there is no cmdlet ${name}`);
    for (const parameter of [...named.keys(), ...switches]) {
      this.#parameter(name, parameterName(parameter), parameter);
    }
    this.#wmi.namespaceOf(name, nameNode, named);
    for (const [parameter, value] of named) {
      const text = parameterName(parameter);
      this.#values.argument(name, cmdlet, text, value);
      this.#wmi.classArgument(text, value, named);
    }
    for (const variable of splatted) {
      for (const { key, value } of this.#hashes.get(variable.text.slice(1)) ?? []) {
        const text = literalOf(key) ?? '';
        this.#parameter(name, text, key);
        if (value !== undefined) this.#values.argument(name, cmdlet, text, value);
      }
    }
    switch (name) {
      case 'Get-Command': {
        const node = valueOf(named, 'Name');
        const text = node === undefined ? '' : (literalOf(node) ?? '');
        const isThere = this.#book.cmdlet(text) !== undefined;
        if (node !== undefined) {
          this.notes.demand(isThere, inner(node), text, `there is no cmdlet ${text}`);
        }
        return type;
      }
      case 'New-Object':
        this.#values.newObject(named);
        break;
      case 'Invoke-CimMethod': {
        const target = valueOf(named, 'InputObject');
        const of = target === undefined ? 'net' : this.typeOf(target);
        this.#wmi.method(of, named, (value) => this.typeOf(value));
        return type;
      }
      // its properties are no answer
      case 'New-CimInstance':
        return type;
    }
    if (elements !== undefined) this.#walkArguments(elements);
    return type;
  }

  #ownCommand(name: string, named: ReadonlyMap<Node, Node>): void {
    this.#current?.calls.add(name);
    for (const [parameter, value] of named) {
      this.#wmi.classArgument(parameterName(parameter), value, named);
    }
    const out = valueOf(named, 'Out');
    if (out === undefined || !OUT_READERS.has(name)) return;
    this.#wmi.outParameter(this.typeOf(out), valueOf(named, 'Name'), name === 'Get-HvdrOutId');
  }

  #parameter(cmdlet: string, name: string, node: Node): void {
    const isThere =
      this.#book.cmdlet(cmdlet)?.params?.[name] !== undefined ||
      this.#book.commonParameters.includes(name);
    this.notes.demand(isThere, node, name, `${cmdlet} has no parameter ${name}`);
  }

  #walkArguments(elements: Node): void {
    for (const child of childrenOf(elements))
      if (child.type !== 'command_parameter') this.typeOf(child);
  }

  #outputOf(name: string, named: ReadonlyMap<Node, Node>): Type {
    const text = (parameter: string): string | undefined => {
      const value = valueOf(named, parameter);
      return value === undefined ? undefined : literalOf(value);
    };
    if (name === 'New-CimInstance') {
      const of = valueOf(named, 'CimClass');
      const className = of === undefined ? '' : this.typeOf(of).replace(/^class /, '');
      return this.#wmi.newInstance(className, valueOf(named, 'Property'));
    }
    if (name === 'Get-Command') return `command ${text('Name') ?? ''}`;
    if (name === 'Invoke-CimMethod') {
      const of = valueOf(named, 'InputObject');
      const className = of === undefined ? '' : this.typeOf(of).replace(/^wmi /, '');
      return `out ${className}.${text('MethodName') ?? ''}`;
    }
    // which one is asked for stands in a variable: a reference, to whatever it is
    if (name === 'Get-HvdrOut' && text('Name') === undefined) return 'wmi CIM_ManagedElement';
    const className = text('ResultClassName') ?? text('ClassName');
    if (className !== undefined) {
      if (name === 'Get-CimClass') return `class ${className}`;
      if (className === 'CIM_ConcreteJob') return 'wmi Msvm_ConcreteJob';
      return `wmi ${className}`;
    }
    return CMDLET_TYPES[name] ?? OTHER_OUTPUTS[name] ?? this.#returns.get(name) ?? 'net';
  }

  #answerKey(key: Node | undefined): void {
    const text = key === undefined ? undefined : literalOf(key);
    if (text !== undefined) this.#current?.keys.add(text);
  }
}

const parameterName = ({ text }: Node): string => text.replace(/^-/, '').replace(/:$/, '');
