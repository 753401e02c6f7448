// The completion of zsh: tables of commands, options and choices, and a function that reads them. It works from a file
// _hvdr in a folder of $fpath, and when it is read in by `source`.

import { type CommandEntry, nextCommands, withCommonOptions } from './command-table.js';

const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

/** An associative array, whose keys are put down quoted: in a subscript quotes would belong to the key. */
function table(name: string, rows: readonly (readonly [key: string, value: string])[]): string {
  const lines = rows.map(([key, value]) => `  ${quoted(key)} ${quoted(value)}`);
  return [`typeset -gA ${name}`, `${name}=(`, ...lines, ')'].join('\n');
}

/** Of what _describe shows, one a line; a colon ends the name. */
const described = (name: string, summary: string): string =>
  `${name.replaceAll(':', '\\:')}:${summary}`;

export function zshCompletion(commands: readonly CommandEntry[]): string {
  const entries = withCommonOptions(commands);
  const valuedOf = ({ options }: CommandEntry) => options.filter(({ takesValue }) => takesValue);
  return [
    HEAD,
    table(
      '_hvdr_commands',
      entries.map((entry) => [
        `.${entry.name}`,
        nextCommands(commands, entry)
          .map(([name, summary]) => described(name, summary))
          .join('\n'),
      ]),
    ),
    table(
      '_hvdr_options',
      entries.map(({ name, options }) => [
        `.${name}`,
        options
          .flatMap((option) => option.names.map((long) => described(long, option.summary)))
          .join('\n'),
      ]),
    ),
    table(
      '_hvdr_valued',
      entries.map((entry) => [
        `.${entry.name}`,
        valuedOf(entry)
          .flatMap(({ names }) => names)
          .join(' '),
      ]),
    ),
    table(
      '_hvdr_choices',
      entries.flatMap((entry) =>
        valuedOf(entry)
          .filter(({ choices }) => choices.length > 0)
          .flatMap(({ names, choices }) =>
            names.map((name) => [`.${entry.name}${name}`, choices.join(' ')] as const),
          ),
      ),
    ),
    BODY,
  ].join('\n');
}

const HEAD = `#compdef hvdr
# zsh completion of hvdr, made by \`hvdr completion zsh\``;

const BODY = `
_hvdr() {
  # not "path": that is the search path here
  local at='' wants='' token next word=\${words[CURRENT]}
  local -a offers
  for token in "\${(@)words[2,CURRENT-1]}"; do
    next="\${at:+$at }$token"
    if [[ -n $wants ]]; then
      wants=''
    elif [[ $token == -* ]]; then
      [[ " \${_hvdr_valued[.$at]} " == *" $token "* ]] && wants=$token
    elif (( \${+_hvdr_options[.$next]} )); then
      at=$next
    fi
  done
  if [[ -n $wants ]]; then
    if (( \${+_hvdr_choices[.$at$wants]} )); then
      compadd -- \${=_hvdr_choices[.$at$wants]}
    else
      _files
    fi
  elif [[ $word == -* ]]; then
    offers=("\${(@f)_hvdr_options[.$at]}")
    _describe -o option offers
  elif [[ -n \${_hvdr_commands[.$at]} ]]; then
    offers=("\${(@f)_hvdr_commands[.$at]}")
    _describe command offers
  else
    _files
  fi
}

# the file is the function when zsh loads it by itself
if [[ \${funcstack[1]} == _hvdr ]]; then
  _hvdr "$@"
else
  compdef _hvdr hvdr
fi
`;
