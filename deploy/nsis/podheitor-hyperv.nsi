; The set-up for Windows. bin/package/windows.mjs gives it:
;   VERSION, STAGE (the folder of all files), OUTPUT, LISTS (of these files, by component), COMPRESS (lzma or off)
;
; Everything is unpacked into .new folders first, where a full disk harms nobody. Then services are stopped, and each file
; changes places with its former one, which also works for programs and libraries that run. When a step fails, the former
; files come back and the services that ran run again. Only files of the list are ever removed.
;
; Exit codes: 0 done, 1 failed and nothing was changed or all of it undone, 2 wrong usage.

Target amd64-unicode
!if "${COMPRESS}" == "off"
  SetCompress off
!else
  SetCompressor /SOLID lzma
!endif
RequestExecutionLevel admin
ManifestSupportedOS all
ShowInstDetails show
ShowUninstDetails show

!include "MUI2.nsh"
!include "LogicLib.nsh"
!include "FileFunc.nsh"
!include "WinMessages.nsh"
!include "Sections.nsh"
!include "StrFunc.nsh"
${StrStr}
!include "${LISTS}"

!define PRODUCT "PodHeitor HVDR"
!define KEY "Software\PodHeitor\HyperV"
!define UNINSTALL_KEY "Software\Microsoft\Windows\CurrentVersion\Uninstall\PodHeitorHyperV"
!define EVENT_KEY "SYSTEM\CurrentControlSet\Services\EventLog\Application"
!define RECEIVER "PodHeitorReceiver"
!define AGENT "PodHeitorAgent"

Name "${PRODUCT} ${VERSION}"
OutFile "${OUTPUT}"
InstallDir "$PROGRAMFILES64\PodHeitor\HyperV"
InstallDirRegKey HKLM "${KEY}" "InstallDir"
VIProductVersion "${VERSION}.0"
VIAddVersionKey "ProductName" "${PRODUCT}"
VIAddVersionKey "ProductVersion" "${VERSION}"
VIAddVersionKey "FileVersion" "${VERSION}"
VIAddVersionKey "FileDescription" "${PRODUCT} set-up"
VIAddVersionKey "LegalCopyright" "Apache-2.0; the plugins: AGPL-3.0-only"

Var Config      ; %ProgramData%\PodHeitor
Var Plugins     ; of the File Daemon; empty: there is none
Var Failure     ; what went wrong first
Var From        ; SwapIn, SwapOut, Settle: from this folder …
Var To          ; … into this one
Var Names       ; and the file that tells which names were new there
Var ReceiverRan
Var AgentRan
Var Report

!define MUI_ABORTWARNING
!insertmacro MUI_PAGE_WELCOME
!insertmacro MUI_PAGE_LICENSE "${STAGE}\LICENSE.txt"
!insertmacro MUI_PAGE_COMPONENTS
!insertmacro MUI_PAGE_DIRECTORY
!insertmacro MUI_PAGE_INSTFILES
!insertmacro MUI_PAGE_FINISH
!insertmacro MUI_UNPAGE_CONFIRM
!insertmacro MUI_UNPAGE_INSTFILES
!insertmacro MUI_LANGUAGE "English"

; A line on the page, and in a file for silent runs.
!macro SayLine un
Function ${un}Say
  Exch $0
  Push $1
  DetailPrint "$0"
  FileOpen $1 "$TEMP\podheitor-setup.log" a
  FileSeek $1 0 END
  FileWrite $1 "$0$\r$\n"
  FileClose $1
  Pop $1
  Pop $0
FunctionEnd
!macroend
!insertmacro SayLine ""
!insertmacro SayLine "un."
!macro Say TEXT
  Push "${TEXT}"
  Call Say
!macroend
!define Say "!insertmacro Say"
!macro UnSay TEXT
  Push "${TEXT}"
  Call un.Say
!macroend
!define UnSay "!insertmacro UnSay"

; Keeps the first failure only: what follows comes of it.
!macro Fail TEXT
  ${If} $Failure == ""
    StrCpy $Failure "${TEXT}"
  ${EndIf}
  ${Say} "${TEXT}"
!macroend
!define Fail "!insertmacro Fail"

; Runs a program of ours; its exit code is in $0, what it said goes to the report.
!macro Run COMMAND
  nsExec::ExecToStack `${COMMAND}`
  Pop $0
  Pop $Report
  ${If} $Report != ""
    ${Say} "$Report"
  ${EndIf}
!macroend
!define Run "!insertmacro Run"

; ---------------------------------------------------------------- components

Section "Backend and Hyper-V plugin (required)" SecMain
  SectionIn RO
  SetOutPath "$INSTDIR\.new"
  !insertmacro UnpackMain
SectionEnd

SectionGroup /e "Services"
Section /o "Receiver (DR site)" SecReceiver
SectionEnd
Section /o "Agent (Hyper-V host)" SecAgent
SectionEnd
SectionGroupEnd

Section /o "Conversion: plugins for vSphere and Proxmox" SecConversion
  SetOutPath "$INSTDIR\.new"
  !insertmacro UnpackConversion
SectionEnd

Section "Documentation" SecDocumentation
  SetOutPath "$INSTDIR\.new"
  !insertmacro UnpackDocumentation
SectionEnd

Section "-Apply"
  Call Apply
  SetOutPath "$TEMP"
  ${If} $Failure != ""
    Call Undo
    ${Say} "failed: $Failure; what was there before is there again"
    SetErrorLevel 1
    MessageBox MB_OK|MB_ICONSTOP "$Failure$\r$\n$\r$\nWhat was there before is there again." /SD IDOK
    Abort
  ${EndIf}
  Call Finish
SectionEnd

LangString DescMain ${LANG_ENGLISH} "Command line, backend, the plugin of Bacula's File Daemon, an example FileSet, manual and licence."
LangString DescReceiver ${LANG_ENGLISH} "Takes the cycles of Hyper-V hosts and keeps their restore points. Started by you, once its keys are there."
LangString DescAgent ${LANG_ENGLISH} "Replicates the VMs of this host for ever. Started by you, once its key is there."
LangString DescConversion ${LANG_ENGLISH} "Restores VMware and Proxmox backups as Hyper-V VMs. Needs qemu-img.exe on the PATH, which is not part of this."
LangString DescDocumentation ${LANG_ENGLISH} "All pages of the documentation."
!insertmacro MUI_FUNCTION_DESCRIPTION_BEGIN
  !insertmacro MUI_DESCRIPTION_TEXT ${SecMain} $(DescMain)
  !insertmacro MUI_DESCRIPTION_TEXT ${SecReceiver} $(DescReceiver)
  !insertmacro MUI_DESCRIPTION_TEXT ${SecAgent} $(DescAgent)
  !insertmacro MUI_DESCRIPTION_TEXT ${SecConversion} $(DescConversion)
  !insertmacro MUI_DESCRIPTION_TEXT ${SecDocumentation} $(DescDocumentation)
!insertmacro MUI_FUNCTION_DESCRIPTION_END

; ---------------------------------------------------------------- what is wanted

Function .onInit
  SetRegView 64
  SetShellVarContext all
  StrCpy $Config "$APPDATA\PodHeitor"
  StrCpy $Failure ""
  ; an upgrade has the components that were there
  ReadRegStr $1 HKLM "${KEY}" "Components"
  ${GetParameters} $0
  ClearErrors
  ${GetOptions} $0 "/COMPONENTS=" $2
  ${IfNot} ${Errors}
    StrCpy $1 $2
  ${EndIf}
  ${If} $1 != ""
    Push $1
    Call SelectComponents
  ${EndIf}
  Call FindPlugins
FunctionEnd

; Takes a list of names with commas: none, or some of receiver, agent, conversion, documentation.
!macro Choose NAME SECTION
  ${StrStr} $2 $1 ",${NAME},"
  ${If} $2 != ""
    !insertmacro SelectSection ${SECTION}
    IntOp $3 $3 + 1
  ${Else}
    !insertmacro UnselectSection ${SECTION}
  ${EndIf}
!macroend
Function SelectComponents
  Pop $1
  StrCpy $4 0 ; names in the list
  StrCpy $5 "$1,"
  ${Do}
    ${StrStr} $6 $5 ","
    ${If} $6 == ""
      ${Break}
    ${EndIf}
    IntOp $4 $4 + 1
    StrCpy $5 $6 "" 1
  ${Loop}
  StrCpy $1 ",$1,"
  StrCpy $3 0 ; names that are known
  !insertmacro Choose receiver ${SecReceiver}
  !insertmacro Choose agent ${SecAgent}
  !insertmacro Choose conversion ${SecConversion}
  !insertmacro Choose documentation ${SecDocumentation}
  ${If} $1 != ",none,"
  ${AndIf} $3 != $4
    ${Say} "wrong usage: /COMPONENTS= takes none, or some of receiver,agent,conversion,documentation"
    SetErrorLevel 2
    Abort
  ${EndIf}
FunctionEnd

; The File Daemon's plugin folder: of /BACULA=FOLDER, else of its service, else of the last installation.
Function FindPlugins
  ${GetParameters} $0
  ClearErrors
  ${GetOptions} $0 "/BACULA=" $1
  ${If} ${Errors}
    ReadRegStr $2 HKLM "SYSTEM\CurrentControlSet\Services\Bacula-fd" "ImagePath"
    StrCpy $3 $2 1
    ${If} $3 == '"'
      StrCpy $2 $2 "" 1
    ${EndIf}
    ${StrStr} $4 $2 "\bacula-fd.exe"
    StrLen $5 $2
    StrLen $6 $4
    IntOp $5 $5 - $6
    StrCpy $1 $2 $5
    ${If} $6 == 0
    ${OrIfNot} ${FileExists} "$1\*.*"
      StrCpy $1 "none"
    ${EndIf}
  ${ElseIf} $1 != "none"
  ${AndIfNot} ${FileExists} "$1\*.*"
    ${Say} "wrong usage: /BACULA= names no folder: $1"
    SetErrorLevel 2
    Abort
  ${EndIf}
  ${If} $1 == "none"
    StrCpy $Plugins ""
  ${Else}
    StrCpy $Plugins "$1\plugins"
  ${EndIf}
FunctionEnd

; ---------------------------------------------------------------- files

; Of a name: the new file takes the place of the former one, which stays beside it.
Function SwapIn
  Exch $R0
  Push $R1
  ${If} $Failure == ""
  ${AndIf} ${FileExists} "$From\$R0"
    ${GetParent} "$To\$R0" $R1
    CreateDirectory "$R1"
    Delete "$To\$R0.former"
    ${If} ${FileExists} "$To\$R0.former"
      ; a process that has not been started again since the last upgrade
      System::Call "kernel32::GetTickCount() i .R1"
      Rename "$To\$R0.former" "$To\$R0.$R1.old"
      Delete /REBOOTOK "$To\$R0.$R1.old"
    ${EndIf}
    ClearErrors
    ${If} ${FileExists} "$To\$R0"
      Rename "$To\$R0" "$To\$R0.former"
    ${Else}
      WriteINIStr "$Names" "new" "$R0" "1"
    ${EndIf}
    ; asking for errors forgets them
    ${If} ${Errors}
      ${Fail} "$To\$R0 cannot be replaced"
    ${Else}
      Rename "$From\$R0" "$To\$R0"
      ${If} ${Errors}
        ${Fail} "$To\$R0 cannot be written"
      ${EndIf}
    ${EndIf}
  ${EndIf}
  Pop $R1
  Pop $R0
FunctionEnd

; Of a name: the former file is back in its place, and one that was new is gone.
Function SwapOut
  Exch $R0
  Push $R1
  ReadINIStr $R1 "$Names" "new" "$R0"
  ${If} ${FileExists} "$To\$R0.former"
    Delete "$To\$R0"
    ${If} ${FileExists} "$To\$R0" ; it runs
      Rename "$To\$R0" "$From\$R0"
    ${EndIf}
    Rename "$To\$R0.former" "$To\$R0"
  ${ElseIf} $R1 == "1"
    Delete /REBOOTOK "$To\$R0"
  ${EndIf}
  Pop $R1
  Pop $R0
FunctionEnd

; Of a name: the former file goes, now or with the process that has it.
Function Settle
  Exch $R0
  Delete /REBOOTOK "$To\$R0.former"
  Pop $R0
FunctionEnd

!macro SwapIn NAME
  Push "${NAME}"
  Call SwapIn
!macroend
!macro SwapOut NAME
  Push "${NAME}"
  Call SwapOut
!macroend
!macro Settle NAME
  Push "${NAME}"
  Call Settle
!macroend

; A second name of a file, or a copy where there can be none.
!macro LinkFile TARGET NAME
  System::Call 'kernel32::CreateHardLinkW(w "${NAME}", w "${TARGET}", p 0) i .r0'
  ${If} $0 == 0
    CopyFiles /SILENT "${TARGET}" "${NAME}"
  ${EndIf}
!macroend

!macro Programs
  StrCpy $From "$INSTDIR\.new"
  StrCpy $To "$INSTDIR"
  StrCpy $Names "$INSTDIR\.new\names.ini"
!macroend
!macro PluginFiles
  StrCpy $From "$Plugins\.podheitor-new"
  StrCpy $To "$Plugins"
  StrCpy $Names "$Plugins\.podheitor-new\names.ini"
!macroend
!macro LinkPlugin NAME
  ${If} ${FileExists} "$INSTDIR\bacula\${NAME}"
    CopyFiles /SILENT "$INSTDIR\bacula\${NAME}" "$From\${NAME}"
  ${EndIf}
!macroend
!macro LinkBackend NAME
  ${GetParent} "$From\${NAME}" $1
  CreateDirectory "$1"
  !insertmacro LinkFile "$INSTDIR\${NAME}" "$From\${NAME}"
!macroend

!macro RemoveNew NAME
  Delete "$From\${NAME}"
!macroend

!macro RemoveNewFolder NAME
  RMDir "$From\${NAME}"
!macroend
!macro RemoveFolder NAME
  RMDir "$INSTDIR\${NAME}"
!macroend
!macro RemovePluginFolder NAME
  RMDir "$Plugins\${NAME}"
!macroend
!macro RemoveFile NAME
  Delete /REBOOTOK "$INSTDIR\${NAME}"
!macroend
!macro RemovePlugin NAME
  Delete /REBOOTOK "$Plugins\${NAME}"
!macroend

; ---------------------------------------------------------------- the steps

!macro StopService NAME RAN
  ${Run} '"$INSTDIR\.new\phsvc.exe" state ${NAME}'
  StrCpy ${RAN} $0 ; 0: it runs, 3: it is not there
  ${If} ${RAN} == 0
    ${Run} '"$INSTDIR\.new\phsvc.exe" stop ${NAME}'
    ${If} $0 != 0
      ${Fail} "the service ${NAME} cannot be stopped"
    ${EndIf}
  ${EndIf}
!macroend

!macro MakeService NAME RAN SECTION TITLE ABOUT WORDS LOG
  ${If} $Failure == ""
    ${If} ${SectionIsSelected} ${SECTION}
      ${Run} '"$INSTDIR\phsvc.exe" install ${NAME} "${TITLE}" "${ABOUT}" "$Config\log\${LOG}" -- "$INSTDIR\hvdr.exe" ${WORDS} --stop-on-stdin-close'
      ${If} $0 != 0
        ${Fail} "the service ${NAME} cannot be made"
      ${EndIf}
      WriteRegExpandStr HKLM "${EVENT_KEY}\${NAME}" "EventMessageFile" "%SystemRoot%\System32\EventCreate.exe"
      WriteRegDWORD HKLM "${EVENT_KEY}\${NAME}" "TypesSupported" 7
      ${If} $Failure == ""
      ${AndIf} ${RAN} == 0
        ${Run} '"$INSTDIR\phsvc.exe" start ${NAME}'
        ${If} $0 != 0
          ${Fail} "the service ${NAME} does not run with the new files, see $Config\log\${LOG}"
        ${EndIf}
      ${EndIf}
    ${ElseIf} ${RAN} != 3
      ${Run} '"$INSTDIR\phsvc.exe" remove ${NAME}'
      ${If} $0 != 0
        ${Fail} "the service ${NAME} cannot be removed"
      ${EndIf}
      DeleteRegKey HKLM "${EVENT_KEY}\${NAME}"
    ${EndIf}
  ${EndIf}
!macroend

; Files of the administrator: made once, never changed by us.
!macro KeepConfig NAME
  ${IfNot} ${FileExists} "$Config\${NAME}"
    CopyFiles /SILENT "$INSTDIR\config\${NAME}" "$Config\${NAME}"
  ${EndIf}
!macroend

Function Apply
  StrCpy $ReceiverRan 3
  StrCpy $AgentRan 3
  ClearErrors
  WriteUninstaller "$INSTDIR\.new\uninstall.exe"
  !insertmacro LinkFile "$INSTDIR\.new\podheitor-hyperv-backend.exe" "$INSTDIR\.new\hvdr.exe"
  ${If} ${Errors}
    ${Fail} "$INSTDIR cannot be written"
  ${Else}
    !insertmacro StopService ${RECEIVER} $ReceiverRan
    !insertmacro StopService ${AGENT} $AgentRan
  ${EndIf}
  !insertmacro Programs
  !insertmacro EachFile SwapIn

  ${If} $Failure == ""
    ; keys and the store are nobody else's: inherited rights would let all users in
    CreateDirectory "$Config"
    CreateDirectory "$Config\keys"
    CreateDirectory "$Config\log"
    ${Run} '"$SYSDIR\icacls.exe" "$Config" /inheritance:r /grant:r *S-1-5-18:(OI)(CI)F *S-1-5-32-544:(OI)(CI)F /q'
    ${If} $0 != 0
      ${Fail} "$Config cannot be kept from other users"
    ${EndIf}
    !insertmacro KeepConfig receiver.conf
    !insertmacro KeepConfig agent.conf
    !insertmacro KeepConfig backend.conf
  ${EndIf}

  ${If} $Failure == ""
  ${AndIf} $Plugins != ""
    !insertmacro PluginFiles
    CreateDirectory "$From"
    !insertmacro EachPlugin LinkPlugin
    ${IfNot} ${SectionIsSelected} ${SecConversion}
      !insertmacro EachConversionPlugin RemoveNew
    ${EndIf}
    !insertmacro EachBackend LinkBackend
    !insertmacro EachPlugin SwapIn
    !insertmacro EachBackend SwapIn
  ${EndIf}

  !insertmacro MakeService ${RECEIVER} $ReceiverRan ${SecReceiver} "PodHeitor HVDR receiver" \
    "Takes the cycles of Hyper-V hosts and keeps their restore points." \
    'receiver --config "$Config\receiver.conf"' receiver.log
  !insertmacro MakeService ${AGENT} $AgentRan ${SecAgent} "PodHeitor HVDR agent" \
    "Replicates the VMs of this host to a DR receiver." \
    'daemon --config "$Config\agent.conf"' agent.log
FunctionEnd

!macro UndoService NAME RAN
  ${If} ${RAN} == 3
    ${If} ${FileExists} "$INSTDIR\phsvc.exe"
      ${Run} '"$INSTDIR\phsvc.exe" remove ${NAME}'
    ${EndIf}
    DeleteRegKey HKLM "${EVENT_KEY}\${NAME}"
  ${Else}
    ${Run} '"$INSTDIR\phsvc.exe" stop ${NAME}'
  ${EndIf}
!macroend
!macro RestartService NAME RAN
  ${If} ${RAN} == 0
    ${Run} '"$INSTDIR\phsvc.exe" start ${NAME}'
    ${If} $0 != 0
      ${Say} "the service ${NAME} does not run again"
    ${EndIf}
  ${EndIf}
!macroend

Function Undo
  !insertmacro UndoService ${RECEIVER} $ReceiverRan
  !insertmacro UndoService ${AGENT} $AgentRan
  ${If} $Plugins != ""
    !insertmacro PluginFiles
    !insertmacro EachPlugin SwapOut
    !insertmacro EachBackend SwapOut
  ${EndIf}
  !insertmacro Programs
  !insertmacro EachFile SwapOut
  !insertmacro RestartService ${RECEIVER} $ReceiverRan
  !insertmacro RestartService ${AGENT} $AgentRan
  Call CleanUp
  ; of a first installation nothing is left
  !insertmacro EachFolder RemoveFolder
  RMDir "$INSTDIR"
FunctionEnd

; What was unpacked and did not get to its place.
Function CleanUp
  !insertmacro Programs
  !insertmacro EachFile RemoveNew
  Delete "$Names"
  !insertmacro EachFolder RemoveNewFolder
  RMDir "$From"
  ${If} $Plugins != ""
    !insertmacro PluginFiles
    !insertmacro EachPlugin RemoveNew
    !insertmacro EachBackend RemoveNew
    Delete "$Names"
    !insertmacro EachBackendFolder RemoveNewFolder
    RMDir "$From"
    !insertmacro EachBackendFolder RemovePluginFolder
  ${EndIf}
FunctionEnd

!macro Name SECTION NAME
  ${If} ${SectionIsSelected} ${SECTION}
    StrCpy $1 "$1,${NAME}"
  ${EndIf}
!macroend

Function Finish
  ${IfNot} ${SectionIsSelected} ${SecConversion}
    !insertmacro EachConversion RemoveFile
    ${If} $Plugins != ""
      !insertmacro EachConversionPlugin RemovePlugin
    ${EndIf}
  ${EndIf}
  ${IfNot} ${SectionIsSelected} ${SecDocumentation}
    !insertmacro EachDocumentation RemoveFile
  ${EndIf}
  !insertmacro Programs
  !insertmacro EachFile Settle
  ${If} $Plugins != ""
    !insertmacro PluginFiles
    !insertmacro EachPlugin Settle
    !insertmacro EachBackend Settle
  ${EndIf}
  Call CleanUp
  !insertmacro EachFolder RemoveFolder
  WriteRegStr HKLM "${KEY}" "InstallDir" "$INSTDIR"
  WriteRegStr HKLM "${KEY}" "Version" "${VERSION}"
  WriteRegStr HKLM "${KEY}" "PluginDir" "$Plugins"
  StrCpy $1 ""
  !insertmacro Name ${SecReceiver} receiver
  !insertmacro Name ${SecAgent} agent
  !insertmacro Name ${SecConversion} conversion
  !insertmacro Name ${SecDocumentation} documentation
  ${If} $1 == ""
    StrCpy $1 ",none"
  ${EndIf}
  StrCpy $1 $1 "" 1
  WriteRegStr HKLM "${KEY}" "Components" "$1"
  WriteRegStr HKLM "${UNINSTALL_KEY}" "DisplayName" "${PRODUCT}"
  WriteRegStr HKLM "${UNINSTALL_KEY}" "DisplayVersion" "${VERSION}"
  WriteRegStr HKLM "${UNINSTALL_KEY}" "Publisher" "PodHeitor"
  WriteRegStr HKLM "${UNINSTALL_KEY}" "InstallLocation" "$INSTDIR"
  WriteRegStr HKLM "${UNINSTALL_KEY}" "UninstallString" '"$INSTDIR\uninstall.exe"'
  WriteRegStr HKLM "${UNINSTALL_KEY}" "QuietUninstallString" '"$INSTDIR\uninstall.exe" /S'
  WriteRegDWORD HKLM "${UNINSTALL_KEY}" "NoModify" 1
  WriteRegDWORD HKLM "${UNINSTALL_KEY}" "NoRepair" 1
  ${Run} '"$INSTDIR\phsvc.exe" path add "$INSTDIR"'
  SendMessage ${HWND_BROADCAST} ${WM_SETTINGCHANGE} 0 "STR:Environment" /TIMEOUT=2000
  ${If} $Plugins == ""
    ${Say} "no File Daemon was found; its plugins are in $INSTDIR\bacula, /BACULA=FOLDER installs them"
  ${Else}
    ${Say} "the plugins are in $Plugins; restart the File Daemon when no job runs"
  ${EndIf}
  ${Say} "installed ${VERSION} in $INSTDIR: $1"
FunctionEnd

Function .onInstFailed
  SetErrorLevel 1
FunctionEnd

; ---------------------------------------------------------------- removal

; A file that somebody has open moves aside and goes with the next start of the machine.
Function un.Drop
  Exch $R0
  Push $R1
  Delete "$R0"
  ${If} ${FileExists} "$R0"
    System::Call "kernel32::GetTickCount() i .R1"
    Rename "$R0" "$R0.$R1.old"
    Delete /REBOOTOK "$R0.$R1.old"
  ${EndIf}
  Pop $R1
  Pop $R0
FunctionEnd
!macro DropFile NAME
  Push "$INSTDIR\${NAME}"
  Call un.Drop
!macroend
!macro DropPluginFile NAME
  Push "$Plugins\${NAME}"
  Call un.Drop
!macroend
!macro RemoveService NAME
  nsExec::ExecToStack '"$INSTDIR\phsvc.exe" remove ${NAME}'
  Pop $0
  Pop $Report
  ${If} $0 != 0
    ${UnSay} "failed: the service ${NAME} cannot be removed: $Report; nothing was removed"
    SetErrorLevel 1
    Abort
  ${EndIf}
  DeleteRegKey HKLM "${EVENT_KEY}\${NAME}"
!macroend

Function un.onInit
  SetRegView 64
  SetShellVarContext all
FunctionEnd

Section "un.Main"
  !insertmacro RemoveService ${RECEIVER}
  !insertmacro RemoveService ${AGENT}
  nsExec::ExecToStack '"$INSTDIR\phsvc.exe" path remove "$INSTDIR"'
  Pop $0
  Pop $Report
  SendMessage ${HWND_BROADCAST} ${WM_SETTINGCHANGE} 0 "STR:Environment" /TIMEOUT=2000
  ReadRegStr $Plugins HKLM "${KEY}" "PluginDir"
  ${If} $Plugins != ""
    !insertmacro EachPlugin DropPluginFile
    !insertmacro EachBackend DropPluginFile
    !insertmacro EachBackendFolder RemovePluginFolder
  ${EndIf}
  !insertmacro EachFile DropFile
  !insertmacro EachFolder RemoveFolder
  RMDir "$INSTDIR"
  RMDir "$PROGRAMFILES64\PodHeitor"
  DeleteRegKey HKLM "${UNINSTALL_KEY}"
  DeleteRegKey HKLM "${KEY}"
  DeleteRegKey /ifempty HKLM "Software\PodHeitor"
  ${UnSay} "removed; configuration, keys, logs and store stay in $APPDATA\PodHeitor"
SectionEnd
