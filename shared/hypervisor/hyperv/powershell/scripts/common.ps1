# What the area files share: finding things, refusing what is missing, and the shapes of answers.

$HvdrNamespace = 'root\virtualization\v2'

function New-HvdrMissing {
    param($Message)
    $exception = New-Object -TypeName 'System.InvalidOperationException' -ArgumentList @($Message)
    return New-Object -TypeName 'System.Management.Automation.ErrorRecord' -ArgumentList @($exception, 'HvdrNotFound', 'ObjectNotFound', $null)
}

# A value inside of a WQL literal.
function ConvertTo-HvdrLiteral {
    param($Value)
    return $Value.ToString().Replace('\', '\\').Replace("'", "\'")
}

function Get-HvdrInstance {
    param($ClassName, $Property, $Value, $Message)
    $literal = ConvertTo-HvdrLiteral -Value $Value
    $filter = "$Property='$literal'"
    $found = @(Get-CimInstance -Namespace $HvdrNamespace -ClassName $ClassName -Filter $filter)
    if ($found.Count -eq 0) {
        throw (New-HvdrMissing -Message $Message)
    }
    return $found[0]
}

# Each of these services has one instance.
function Get-HvdrService {
    param($ClassName)
    return @(Get-CimInstance -Namespace $HvdrNamespace -ClassName $ClassName)[0]
}

function Get-HvdrSystem {
    param($VmId)
    $id = ([guid]$VmId).ToString().ToUpperInvariant()
    return Get-HvdrInstance -ClassName 'Msvm_ComputerSystem' -Property 'Name' -Value $id -Message "there is no VM $id on this host"
}

function Get-HvdrVm {
    param($VmId)
    $system = Get-HvdrSystem -VmId $VmId
    return Get-VM -Id ([guid]$system.Name)
}

# The settings that the VM runs with, not those of a checkpoint.
function Get-HvdrActiveSettings {
    param($System)
    return @(Get-CimAssociatedInstance -InputObject $System -Association 'Msvm_SettingsDefineState' -ResultClassName 'Msvm_VirtualSystemSettingData')[0]
}

function Get-HvdrStorage {
    param($Settings)
    $storage = @(Get-CimAssociatedInstance -InputObject $Settings -Association 'Msvm_VirtualSystemSettingDataComponent' -ResultClassName 'Msvm_StorageAllocationSettingData')
    $disks = @()
    foreach ($item in $storage) {
        $isDisk = $item.ResourceSubType -eq 'Microsoft:Hyper-V:Virtual Hard Disk'
        if ($isDisk -and ($item.ResourceType -eq 31) -and (@($item.HostResource).Count -gt 0)) {
            $disks += @{
                'instanceId' = $item.InstanceID
                'path' = $item.HostResource[0]
            }
        }
    }
    return $disks
}

# An out parameter of a method; one that has no value may not be there at all.
function Get-HvdrOut {
    param($Out, $Name)
    $member = $Out.PSObject.Properties[$Name]
    if ($null -eq $member) {
        return $null
    }
    return $member.Value
}

function Get-HvdrOutId {
    param($Out, $Name)
    $reference = Get-HvdrOut -Out $Out -Name $Name
    if ($null -eq $reference) {
        return $null
    }
    return $reference.CimInstanceProperties['InstanceID'].Value
}

# How a method answered: done, a job, or a refusal; the caller judges.
function Get-HvdrVerdict {
    param($Out)
    $code = Get-HvdrOut -Out $Out -Name 'ReturnValue'
    # nothing would read as 0, which is success
    if ($null -eq $code) {
        throw 'the method answered without a return value'
    }
    return @{
        'returnValue' = [int64]$code
        'jobId' = Get-HvdrOutId -Out $Out -Name 'Job'
    }
}

# An embedded instance as methods take it: CIM-XML text.
function ConvertTo-HvdrEmbedded {
    param($Instance)
    $serializer = [Microsoft.Management.Infrastructure.Serialization.CimSerializer]::Create()
    $bytes = $serializer.Serialize($Instance, [Microsoft.Management.Infrastructure.Serialization.InstanceSerializationOptions]::None)
    return [System.Text.Encoding]::Unicode.GetString($bytes)
}

function ConvertTo-HvdrTime {
    param($Value)
    return $Value.ToUniversalTime().ToString('o', [System.Globalization.CultureInfo]::InvariantCulture)
}

function ConvertTo-HvdrText {
    param($Value)
    if ($null -eq $Value) {
        return $null
    }
    return $Value.ToString()
}

# A list of texts or numbers: nothing is an empty list.
function ConvertTo-HvdrList {
    param($Value)
    return @($Value | Where-Object -FilterScript { $null -ne $_ })
}

function Get-HvdrConsistency {
    param($Level)
    if ($Level -eq 1) {
        return 'application'
    }
    if ($Level -eq 2) {
        return 'crash'
    }
    return 'unknown'
}
