# Recovery checkpoints and reference points (operations/checkpoints.ts). Every method answers at once: with its
# result, or with the job that makes it.

$HvdrRecoveryType = 'Microsoft:Hyper-V:Snapshot:Recovery'

function Get-HvdrCheckpoint {
    param($CheckpointId)
    return Get-HvdrInstance -ClassName 'Msvm_VirtualSystemSettingData' -Property 'InstanceID' -Value $CheckpointId -Message "there is no checkpoint $CheckpointId"
}

function Invoke-HvdrCheckpointCreate {
    param($Arguments)
    $system = Get-HvdrSystem -VmId $Arguments.vmId
    $service = Get-HvdrService -ClassName 'Msvm_VirtualSystemSnapshotService'
    $class = Get-CimClass -Namespace $HvdrNamespace -ClassName 'Msvm_VirtualSystemSnapshotSettingData'
    # given at its making: these properties are read-only to an assignment
    $settings = New-CimInstance -CimClass $class -ClientOnly -Property @{
        'ConsistencyLevel' = [byte]2
    }
    if ($Arguments.consistency -eq 'application') {
        $settings = New-CimInstance -CimClass $class -ClientOnly -Property @{
            'ConsistencyLevel' = [byte]1
        }
        # A copy leaves the logs of the guest's databases to their own backup. Windows Server 2016 has no such choice.
        if ($null -ne $class.CimClassProperties['GuestBackupType']) {
            $settings = New-CimInstance -CimClass $class -ClientOnly -Property @{
                'ConsistencyLevel' = [byte]1
                'GuestBackupType' = [byte]2
            }
        }
    }
    $embedded = ConvertTo-HvdrEmbedded -Instance $settings
    # 32768: a recovery checkpoint, the only kind that becomes a reference point
    $out = Invoke-CimMethod -InputObject $service -MethodName 'CreateSnapshot' -Arguments @{
        'AffectedSystem' = $system
        'SnapshotSettings' = $embedded
        'SnapshotType' = [uint16]32768
    }
    $answer = Get-HvdrVerdict -Out $out
    $answer['checkpointId'] = Get-HvdrOutId -Out $out -Name 'ResultingSnapshot'
    return $answer
}

function Invoke-HvdrCheckpointOfJob {
    param($Arguments)
    $id = $null
    foreach ($job in @(Find-HvdrJob -JobId $Arguments.jobId)) {
        $made = @(Get-CimAssociatedInstance -InputObject $job -Association 'Msvm_AffectedJobElement' -ResultClassName 'Msvm_VirtualSystemSettingData')
        foreach ($settings in $made) {
            if ($settings.VirtualSystemType -eq $HvdrRecoveryType) {
                $id = $settings.InstanceID
            }
        }
    }
    return @{
        'checkpointId' = $id
    }
}

function Invoke-HvdrCheckpointRename {
    param($Arguments)
    $settings = Get-HvdrCheckpoint -CheckpointId $Arguments.checkpointId
    # read-only to an assignment of PowerShell, not to the method
    $settings.CimInstanceProperties['ElementName'].Value = [string]$Arguments.name
    $service = Get-HvdrService -ClassName 'Msvm_VirtualSystemManagementService'
    $embedded = ConvertTo-HvdrEmbedded -Instance $settings
    $out = Invoke-CimMethod -InputObject $service -MethodName 'ModifySystemSettings' -Arguments @{
        'SystemSettings' = $embedded
    }
    return Get-HvdrVerdict -Out $out
}

function Invoke-HvdrCheckpointList {
    param($Arguments)
    $system = Get-HvdrSystem -VmId $Arguments.vmId
    $all = @(Get-CimAssociatedInstance -InputObject $system -Association 'Msvm_SnapshotOfVirtualSystem' -ResultClassName 'Msvm_VirtualSystemSettingData')
    $checkpoints = @()
    foreach ($settings in $all) {
        if ($settings.VirtualSystemType -eq $HvdrRecoveryType) {
            $checkpoints += @{
                'id' = $settings.InstanceID
                'name' = [string]$settings.ElementName
                'createdAt' = ConvertTo-HvdrTime -Value $settings.CreationTime
                # the setting data of a checkpoint does not tell what was obtained
                'consistency' = 'unknown'
                'disks' = @(Get-HvdrStorage -Settings $settings)
            }
        }
    }
    return @{
        'checkpoints' = @($checkpoints)
    }
}

function Invoke-HvdrCheckpointDestroy {
    param($Arguments)
    $settings = Get-HvdrCheckpoint -CheckpointId $Arguments.checkpointId
    $service = Get-HvdrService -ClassName 'Msvm_VirtualSystemSnapshotService'
    $out = Invoke-CimMethod -InputObject $service -MethodName 'DestroySnapshot' -Arguments @{
        'AffectedSnapshot' = $settings
    }
    return Get-HvdrVerdict -Out $out
}

function Invoke-HvdrCheckpointConvert {
    param($Arguments)
    $settings = Get-HvdrCheckpoint -CheckpointId $Arguments.checkpointId
    $service = Get-HvdrService -ClassName 'Msvm_VirtualSystemSnapshotService'
    $out = Invoke-CimMethod -InputObject $service -MethodName 'ConvertToReferencePoint' -Arguments @{
        'AffectedSnapshot' = $settings
    }
    $answer = Get-HvdrVerdict -Out $out
    $answer['referencePointId'] = Get-HvdrOutId -Out $out -Name 'ResultingReferencePoint'
    return $answer
}

function Invoke-HvdrReferencePointOfJob {
    param($Arguments)
    $id = $null
    foreach ($job in @(Find-HvdrJob -JobId $Arguments.jobId)) {
        $made = @(Get-CimAssociatedInstance -InputObject $job -Association 'Msvm_AffectedJobElement' -ResultClassName 'Msvm_VirtualSystemReferencePoint')
        foreach ($point in $made) {
            $id = $point.InstanceID
        }
    }
    return @{
        'referencePointId' = $id
    }
}

function Invoke-HvdrReferencePointList {
    param($Arguments)
    $system = Get-HvdrSystem -VmId $Arguments.vmId
    $all = @(Get-CimAssociatedInstance -InputObject $system -Association 'Msvm_ReferencePointOfVirtualSystem' -ResultClassName 'Msvm_VirtualSystemReferencePoint')
    $points = @()
    foreach ($point in $all) {
        $diskIds = @($point.VirtualDiskIdentifiers)
        $trackingIds = @($point.ResilientChangeTrackingIdentifiers)
        $disks = @()
        for ($index = 0; $index -lt $diskIds.Count; $index += 1) {
            $trackingId = ''
            if ($index -lt $trackingIds.Count) {
                $trackingId = [string]$trackingIds[$index]
            }
            $disks += @{
                'instanceId' = [string]$diskIds[$index]
                'trackingId' = $trackingId
            }
        }
        $points += @{
            'id' = $point.InstanceID
            'consistency' = Get-HvdrConsistency -Level $point.ConsistencyLevel
            'disks' = @($disks)
        }
    }
    return @{
        'referencePoints' = @($points)
    }
}

function Invoke-HvdrReferencePointDestroy {
    param($Arguments)
    $id = $Arguments.referencePointId
    $point = Get-HvdrInstance -ClassName 'Msvm_VirtualSystemReferencePoint' -Property 'InstanceID' -Value $id -Message "there is no reference point $id"
    $service = Get-HvdrService -ClassName 'Msvm_VirtualSystemReferencePointService'
    $out = Invoke-CimMethod -InputObject $service -MethodName 'DestroyReferencePoint' -Arguments @{
        'AffectedReferencePoint' = $point
    }
    return Get-HvdrVerdict -Out $out
}
