// Classes, properties, methods and arguments of WMI, against the facts.

import type { FactBook, FactEntry, MethodFact, PropertyFact } from './facts.js';
import { CIM_XML_PATH, NAMESPACE, RETURN_VALUE, type Type } from './known.js';
import type { Notes } from './notes.js';
import { entriesOf, valueOf } from './shapes.js';
import { inner, literalOf, type Node, nodesOf } from './syntax.js';
import type { Values } from './values.js';

const CLASS_PARAMETERS = new Set(['ClassName', 'ResultClassName', 'Association']);
/** These look into another namespace when they are not told which. */
const IN_NAMESPACE = new Set(['Get-CimInstance', 'Get-CimClass']);

export class Wmi {
  readonly #book: FactBook;
  readonly #notes: Notes;
  readonly #values: Values;

  constructor(book: FactBook, notes: Notes, values: Values) {
    this.#book = book;
    this.#notes = notes;
    this.#values = values;
  }

  classHasProperty(className: string, key: Node): PropertyFact | undefined {
    const name = literalOf(key) ?? '';
    const fact = this.#book.wmiClass(className)?.properties?.[name] as PropertyFact | undefined;
    const node = inner(key);
    this.#notes.demand(fact !== undefined, node, name, `${className} has no property ${name}`);
    return fact;
  }

  /** `New-CimInstance -CimClass $class -Property @{ 'X' = 1 }` */
  newInstance(className: string, hash: Node | undefined): Type {
    for (const { key, value } of hash === undefined ? [] : entriesOf(hash)) {
      const fact = this.classHasProperty(className, key);
      if (value !== undefined) this.#values.number(literalOf(key) ?? '', value, fact?.values ?? {});
    }
    return `wmi ${className}`;
  }

  /** Names of classes, associations and of properties in a filter. */
  classArgument(parameter: string, value: Node, named: ReadonlyMap<Node, Node>): void {
    const literal = literalOf(value);
    if (CLASS_PARAMETERS.has(parameter) && literal !== undefined) {
      const isHere = this.#book.wmiClass(literal)?.namespace === NAMESPACE;
      this.#notes.demand(isHere, inner(value), literal, `there is no class ${literal}`);
    }
    const className = literalOf(valueOf(named, 'ClassName') ?? value);
    const filtered = parameter === 'Filter' ? /^"(\w+)=/.exec(inner(value).text)?.[1] : undefined;
    const property = parameter === 'Property' ? literal : filtered;
    if (property === undefined || className === undefined) return;
    const isThere = this.#book.wmiClass(className)?.properties?.[property] !== undefined;
    const otherwise = `${className} has no property ${property}`;
    this.#notes.demand(isThere, inner(value), property, otherwise);
  }

  namespaceOf(cmdlet: string, node: Node, named: ReadonlyMap<Node, Node>): void {
    if (!IN_NAMESPACE.has(cmdlet)) return;
    const text = inner(valueOf(named, 'Namespace') ?? node).text;
    const otherwise = `${cmdlet} does not look into $HvdrNamespace`;
    this.#notes.demand(text === '$HvdrNamespace', node, '', otherwise);
  }

  /** `Invoke-CimMethod -InputObject $target -MethodName 'X' -Arguments @{ 'Y' = 1 }`, of a target of this type. */
  method(
    type: Type,
    named: ReadonlyMap<Node, Node>,
    look: (argument: Node) => unknown,
  ): MethodFact | undefined {
    const nameNode = valueOf(named, 'MethodName');
    if (nameNode === undefined) return undefined;
    const name = literalOf(nameNode) ?? '';
    const method = this.#methodOf(type.replace(/^wmi /, ''), name);
    const isThere = method !== undefined;
    this.#notes.demand(isThere, inner(nameNode), name, `${type} has no method ${name}`);
    const hash = valueOf(named, 'Arguments');
    for (const { key, value } of hash === undefined ? [] : entriesOf(hash)) {
      const argument = literalOf(key) ?? '';
      const isTaken = method?.in[argument] !== undefined;
      this.#notes.demand(isTaken, key, argument, `${name} takes no ${argument}`);
      if (value === undefined) continue;
      look(value);
      this.#values.number(argument, value, {
        ...method?.paramValues?.[argument],
        ...this.#book.wmiEnum(method?.in[argument] ?? ''),
        ...this.#book.wmiEnum(`${argument} (observed)`),
      });
    }
    return method;
  }

  /** `Get-HvdrOut -Out $out -Name 'X'`, where `isId` wants a reference. */
  outParameter(of: Type, nameNode: Node | undefined, isId: boolean): void {
    const name = nameNode === undefined ? undefined : literalOf(nameNode);
    if (nameNode === undefined || name === undefined) return;
    const [className = '', methodName = ''] = of.replace(/^out ?/, '').split('.');
    const outs =
      className === ''
        ? this.#book.outParameters()
        : (this.#methodOf(className, methodName)?.out ?? {});
    const type = name === RETURN_VALUE && !isId ? 'uint32' : outs[name];
    const isRight = type !== undefined && (!isId || type.startsWith('ref:'));
    const otherwise = `${className === '' ? 'no method' : methodName} gives no ${name}`;
    this.#notes.demand(isRight, inner(nameNode), name, otherwise);
  }

  /** The path of a property of an error, in CIM-XML. */
  errorPath(call: Node): void {
    for (const node of nodesOf(call, 'string_literal')) {
      const [, element = '', attribute = '', property = '', value = ''] =
        CIM_XML_PATH.exec(literalOf(node) ?? '') ?? [];
      const isThere = this.#book.wmiClass('Msvm_Error')?.properties?.[property] !== undefined;
      for (const name of [element, attribute, value, property]) {
        this.#notes.demand(isThere, node, name, `an error has no ${node.text}`);
      }
    }
  }

  entry(type: Type): FactEntry | undefined {
    return this.#book.wmiClass(type.slice('wmi '.length));
  }

  #methodOf(className: string, name: string): MethodFact | undefined {
    return this.#book.wmiClass(className)?.methods?.[name];
  }
}
