import { expect } from 'chai';
import { accessAdvice, keepAdvice } from '../../../shared/files/index.js';
import { accessOf } from '../../../shared/files/windows-access.js';

const ME = 'S-1-5-21-1-2-3-1001';
const OTHER = 'S-1-5-21-1-2-3-1002';

describe('rights on Windows', () => {
  const CASES: readonly {
    readonly what: string;
    readonly sddl: string;
    readonly found: readonly ('exposed' | 'changeable' | 'foreign')[];
  }[] = [
    {
      what: 'a file in a profile: its owner, the system and administrators',
      sddl: `O:${ME}G:${ME}D:AI(A;ID;FA;;;SY)(A;ID;FA;;;BA)(A;ID;FA;;;${ME})`,
      found: [],
    },
    {
      what: 'what protect() gives',
      sddl: `O:BAG:BAD:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;FA;;;${ME})`,
      found: [],
    },
    {
      what: 'a file below ProgramData: users may read it',
      sddl: 'O:BAG:SYD:AI(A;ID;FA;;;SY)(A;ID;FA;;;BA)(A;ID;0x1200a9;;;BU)',
      found: ['exposed'],
    },
    {
      what: 'a file on a data disk: whoever has logged on may change it',
      sddl: 'O:BAG:SYD:AI(A;ID;FA;;;BA)(A;ID;0x1301bf;;;AU)',
      found: ['exposed', 'changeable'],
    },
    {
      what: 'rights in words: generic reading by everyone',
      sddl: `O:${ME}D:(A;;GR;;;WD)`,
      found: ['exposed'],
    },
    {
      what: 'a right that nobody knows',
      sddl: `O:${ME}D:(A;;ZZ;;;WD)`,
      found: ['exposed', 'changeable'],
    },
    {
      what: 'what only comes down to files in a folder',
      sddl: `O:${ME}D:(A;OICIIO;GA;;;WD)(A;OICI;FA;;;${ME})`,
      found: [],
    },
    { what: 'what is denied gives nothing', sddl: `O:${ME}D:(D;;FA;;;WD)(A;;FA;;;SY)`, found: [] },
    { what: 'asking for attributes alone', sddl: `O:${ME}D:(A;;0x80;;;WD)`, found: [] },
    {
      what: 'an owner who is somebody else: he may give himself every right',
      sddl: `O:${OTHER}D:P(A;;FA;;;SY)`,
      found: ['exposed', 'changeable', 'foreign'],
    },
    {
      what: 'no list: everybody may do everything',
      sddl: `O:${ME}`,
      found: ['exposed', 'changeable'],
    },
    {
      what: 'an empty list by that name',
      sddl: `O:${ME}D:NO_ACCESS_CONTROL`,
      found: ['exposed', 'changeable'],
    },
    { what: 'an empty list: nobody may do anything', sddl: `O:${ME}D:P`, found: [] },
    {
      what: 'an audit list behind it',
      sddl: `O:SYD:(A;;FA;;;SY)S:AI(AU;IDSA;FA;;;WD)`,
      found: [],
    },
    {
      what: 'an entry with a condition, which is not understood',
      sddl: `O:${ME}D:(XA;;FR;;;WD;(@User.a == 1))`,
      found: ['exposed', 'changeable'],
    },
    { what: 'nothing that is understood', sddl: 'x', found: ['exposed', 'changeable', 'foreign'] },
  ];

  for (const { what, sddl, found } of CASES) {
    it(`${what}: ${found.join(', ') || 'nothing'}`, () => {
      const access = accessOf(sddl, ME);
      expect(access).to.deep.equal({
        isExposed: found.includes('exposed'),
        isChangeableByOthers: found.includes('changeable'),
        isOwnedByAnother: found.includes('foreign'),
      });
    });
  }

  it('are advised by the commands of the system', () => {
    expect(accessAdvice('/a', 'read', 'linux')).to.equal('chmod 600 /a');
    expect(accessAdvice('/a', 'change', 'linux')).to.equal('chmod go-w /a');
    expect(accessAdvice('C:\\a b', 'read', 'win32')).to.equal(
      'icacls "C:\\a b" /inheritance:r /grant:r *S-1-5-18:F *S-1-5-32-544:F *S-1-3-4:F',
    );
    expect(accessAdvice('C:\\a', 'change', 'win32')).to.contain('*S-1-5-32-545:RX');
    const foreign = {
      sizeBytes: 1,
      kind: 'file',
      identity: '1',
      modifiedAtMs: 0,
      isOwnedByAnother: true,
    } as const;
    expect(keepAdvice('/a', foreign, 'linux'), 'root is no owner of a service').to.equal(
      'chmod 600 /a',
    );
    expect(keepAdvice('C:\\a', foreign, 'win32')).to.match(/setowner.*, then icacls/);
  });
});
