// Fixed values in the scripts: names of enumerations, numbers with a meaning, texts that Windows knows.

import type { FactBook, FactEntry, PropertyFact } from './facts.js';
import {
  CONSTANTS,
  ERROR_CATEGORIES,
  FIXED_ARGUMENTS,
  MEANT_NUMBERS,
  NAMESPACE,
  NET_TYPES,
  OTHER_VALUES,
  PREFERENCES,
  type Type,
} from './known.js';
import type { Notes } from './notes.js';
import { numberOf, valueOf } from './shapes.js';
import { childrenOf, inner, literalOf, type Node, nodesOf } from './syntax.js';

/** What the walk through a script knows. */
export interface Typed {
  typeOf(node: Node): Type;
  entryOf(type: Type): FactEntry | undefined;
}

export class Values {
  readonly #book: FactBook;
  readonly #notes: Notes;
  readonly #typed: Typed;

  constructor(book: FactBook, notes: Notes, typed: Typed) {
    this.#book = book;
    this.#notes = notes;
    this.#typed = typed;
  }

  /** A number that is given for, or compared with, something of this name. */
  number(of: string, value: Node, known: Readonly<Record<string, number>>): void {
    const number = numberOf(value);
    if (number === undefined) return;
    const meant = (MEANT_NUMBERS[of] ?? []).map((name) => known[name]);
    const otherwise = `${of} ${number} is not what is meant`;
    this.#notes.demand(meant.includes(number), value, String(number), otherwise);
  }

  #text(of: string, value: Node, known: readonly string[] | undefined): void {
    const text = literalOf(value);
    if (text === undefined) return;
    const isRight = known?.includes(text) ?? false;
    this.#notes.demand(isRight, inner(value), text, `${of} knows no ${text}`);
  }

  argument(cmdlet: string, entry: FactEntry | undefined, parameter: string, value: Node): void {
    const fixed = FIXED_ARGUMENTS[cmdlet]?.[parameter];
    if (fixed !== undefined) {
      this.#text(parameter, value, fixed);
      return;
    }
    const values = this.#book.psEnum(entry?.params?.[parameter]?.type ?? '');
    if (values !== undefined) this.#text(parameter, value, values);
  }

  /** `$x.Property = [uint16]1` */
  assigned(target: Node, value: Node): void {
    const [base, member] = childrenOf(target);
    if (base === undefined || member === undefined) return;
    const fact = this.#propertyOf(this.#typed.typeOf(base), member.text);
    if (typeof fact === 'object') this.number(member.text, value, fact.values ?? {});
  }

  /** The enumeration whose name `$x.State.ToString()` is. */
  enumOf(node: Node): string | undefined {
    const call = inner(node);
    if (call.type !== 'invokation_expression' || !call.text.endsWith('.ToString()')) return;
    const property = inner(childrenOf(call)[0] ?? call);
    const [base, member] = childrenOf(property);
    if (property.type !== 'member_access' || base === undefined || member === undefined) return;
    const type = this.#typed.typeOf(base);
    if (Object.hasOwn(OTHER_VALUES, `${type}.${member.text}`)) return `${type}.${member.text}`;
    if (!type.startsWith('ps ')) return undefined;
    const fact = this.#propertyOf(type, member.text);
    return typeof fact === 'string' && this.#book.psEnum(fact) !== undefined ? fact : undefined;
  }

  comparison(node: Node): void {
    const [left, right] = childrenOf(node).filter(({ type }) => type !== 'comparison_operator');
    if (left === undefined || right === undefined) return;
    if (/ -(?:not)?contains /.test(node.text)) {
      const of = this.#textType(right);
      for (const item of nodesOf(left, 'string_literal')) {
        if (of !== undefined) this.#text(of, item, this.#namesOf(of));
      }
      return;
    }
    const of = this.#textType(left);
    if (of !== undefined) this.#text(of, right, this.#namesOf(of));
    else this.#comparedProperty(left, right);
  }

  /** `$item.ResourceType -eq 31`, `$item.ResourceSubType -eq '…'`, `$Level -eq 1` */
  #comparedProperty(left: Node, right: Node): void {
    const access = inner(left);
    if (access.text.endsWith('.GetType().FullName')) this.#netType(right, literalOf(right) ?? '');
    let type = this.#typed.typeOf(left);
    let name = '';
    if (access.type === 'member_access') {
      const [base, member] = childrenOf(access);
      if (base === undefined || member === undefined) return;
      type = this.#typed.typeOf(base);
      name = member.text;
    } else if (type.startsWith('number ')) {
      const [className = '', property = ''] = type.slice('number '.length).split('.');
      type = `wmi ${className}`;
      name = property;
    }
    if (!type.startsWith('wmi ')) return;
    const fact = this.#propertyOf(type, name);
    if (typeof fact !== 'object') return;
    this.number(name, inner(right), fact.values ?? {});
    this.#text(name, right, this.#book.wmiTexts(name));
  }

  #textType(node: Node): string | undefined {
    const type = this.#typed.typeOf(node);
    return type.startsWith('text ') ? type.slice('text '.length) : this.enumOf(node);
  }

  #namesOf(of: string): readonly string[] | undefined {
    return OTHER_VALUES[of] ?? this.#book.psEnum(of);
  }

  #propertyOf(type: Type, name: string): string | PropertyFact | undefined {
    return this.#typed.entryOf(type)?.properties?.[name];
  }

  /** A variable of the whole script: a constant of ours, a preference of PowerShell, or neither. */
  scriptVariable(variable: Node, value: Node): void {
    const name = variable.text.slice(1);
    const constant = CONSTANTS[name];
    if (constant === 'namespace') this.#text(name, value, [NAMESPACE]);
    else if (constant !== undefined) this.#text(name, value, this.#book.wmiTexts(constant));
    if (/^Hvdr|^[a-z]/.test(name)) return;
    const wanted = PREFERENCES[name];
    const otherwise = `PowerShell has no $${name}`;
    this.#notes.demand(wanted !== undefined, variable, name, otherwise);
    this.#text(name, value, wanted === undefined ? undefined : [wanted]);
  }

  /** `[guid]`, `[System.Text.Encoding]` */
  netTypes(root: Node): void {
    for (const node of nodesOf(root, 'type_literal')) this.#netType(node, node.text.slice(1, -1));
  }

  /** `New-Object -TypeName 'X'` */
  newObject(named: ReadonlyMap<Node, Node>): void {
    const node = valueOf(named, 'TypeName');
    if (node === undefined) return;
    const name = literalOf(node) ?? '';
    this.#netType(node, name);
    const list = valueOf(named, 'ArgumentList');
    if (!name.endsWith('.ErrorRecord') || list === undefined) return;
    const [, category] = nodesOf(list, 'string_literal');
    if (category !== undefined) this.#text('an error', category, [...ERROR_CATEGORIES]);
  }

  #netType(node: Node, name: string): void {
    this.#notes.demand(NET_TYPES.has(name), node, name, `.NET has no ${name}`);
  }
}
