// The completion of bash: a table of commands, options and choices, and a function that reads it.

import { type CommandEntry, withCommonOptions } from './command-table.js';

const quoted = (words: readonly string[]): string =>
  `'${words.join(' ').replaceAll("'", "'\\''")}'`;

export function bashCompletion(table: readonly CommandEntry[]): string {
  const rows = withCommonOptions(table).map((entry) => {
    const { options } = entry;
    const names = [...new Set(options.flatMap((option) => option.names))];
    const key = quoted([`.${entry.name}`]);
    const withValue = options.filter((option) => option.takesValue);
    return [
      `_hvdr_commands[${key}]=${quoted(entry.commands)}`,
      `_hvdr_options[${key}]=${quoted(names)}`,
      `_hvdr_valued[${key}]=${quoted(withValue.flatMap((option) => option.names))}`,
      ...withValue
        .filter((option) => option.choices.length > 0)
        .flatMap((option) =>
          option.names.map(
            (name) =>
              `_hvdr_choices[${quoted([`.${entry.name}${name}`])}]=${quoted(option.choices)}`,
          ),
        ),
    ].join('\n');
  });
  return `${HEAD}${rows.join('\n')}\n${BODY}`;
}

// an associative array takes no empty key, so each key begins with a mark
const HEAD = `# bash completion of hvdr, made by \`hvdr completion bash\`
declare -gA _hvdr_commands _hvdr_options _hvdr_valued _hvdr_choices
`;

const BODY = `
_hvdr() {
  local word=\${COMP_WORDS[COMP_CWORD]} path='' wants='' index token next
  for ((index = 1; index < COMP_CWORD; index++)); do
    token=\${COMP_WORDS[index]}
    if [[ -n $wants ]]; then
      wants=''
    elif [[ $token == -* ]]; then
      [[ " \${_hvdr_valued[.$path]-} " == *" $token "* ]] && wants=$token
    elif [[ " \${_hvdr_commands[.$path]-} " == *" $token "* ]]; then
      next="$path $token"
      path=\${next# }
    fi
  done
  COMPREPLY=()
  if [[ -n $wants ]]; then
    if [[ -n \${_hvdr_choices[.$path$wants]-} ]]; then
      mapfile -t COMPREPLY < <(compgen -W "\${_hvdr_choices[.$path$wants]-}" -- "$word")
    else
      mapfile -t COMPREPLY < <(compgen -f -- "$word")
    fi
  elif [[ $word == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "\${_hvdr_options[.$path]-}" -- "$word")
  elif [[ -n \${_hvdr_commands[.$path]-} ]]; then
    mapfile -t COMPREPLY < <(compgen -W "\${_hvdr_commands[.$path]-}" -- "$word")
  else
    mapfile -t COMPREPLY < <(compgen -f -- "$word")
  fi
}
complete -o filenames -F _hvdr hvdr
`;
