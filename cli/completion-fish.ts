// The completion of fish: a function that holds the tables of commands, options and choices, and one that reads them.

import { type CommandEntry, nextCommands, withCommonOptions } from './command-table.js';

const quoted = (text: string): string =>
  `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;

/** A row of the table: what is printed for this kind of words at this place. */
function row(kind: string, place: string, words: readonly string[], format: string): string[] {
  if (words.length === 0) return [];
  const printed = words.map((word) => quoted(word)).join(' ');
  return [
    `        case ${quoted(`${kind} ${place}`)}`,
    `            printf '${format}' ${printed}`,
  ];
}

const WORDS = '%s\\n';
const DESCRIBED = '%s\\t%s\\n';

export function fishCompletion(commands: readonly CommandEntry[]): string {
  const rows = withCommonOptions(commands).flatMap((entry) => {
    const { name, options } = entry;
    const valued = options.filter(({ takesValue }) => takesValue);
    return [
      ...row('commands', name, nextCommands(commands, entry).flat(), DESCRIBED),
      ...row(
        'options',
        name,
        options.flatMap((option) => option.names.flatMap((long) => [long, option.summary])),
        DESCRIBED,
      ),
      ...row(
        'valued',
        name,
        valued.flatMap(({ names }) => names),
        WORDS,
      ),
      ...valued.flatMap(({ names, choices }) =>
        names.flatMap((long) => row('choices', `${name}${long}`, choices, WORDS)),
      ),
    ];
  });
  return `${HEAD}${rows.join('\n')}\n${BODY}`;
}

const HEAD = `# fish completion of hvdr, made by \`hvdr completion fish\`
function __hvdr_table --argument-names kind place
    switch "$kind $place"
`;

const BODY = `    end
end

function __hvdr_offers
    set -l place ''
    set -l wants ''
    set -l word (commandline --current-token --cut-at-cursor)
    for token in (commandline --tokenize --current-process --cut-at-cursor)[2..-1]
        set -l next (string trim -- "$place $token")
        if test -n "$wants"
            set wants ''
        else if string match --quiet -- '-*' $token
            if contains -- $token (__hvdr_table valued $place)
                set wants $token
            end
        else if count (__hvdr_table options $next) >/dev/null
            set place $next
        end
    end
    set -l choices (__hvdr_table choices "$place$wants")
    set -l commands (__hvdr_table commands $place)
    if test -n "$wants" -a -n "$choices"
        printf '%s\\n' $choices
    else if test -z "$wants"; and string match --quiet -- '-*' $word
        __hvdr_table options $place
    else if test -z "$wants" -a -n "$commands"
        printf '%s\\n' $commands
    else
        __fish_complete_path $word
    end
end

complete --command hvdr --no-files --arguments '(__hvdr_offers)'
`;
