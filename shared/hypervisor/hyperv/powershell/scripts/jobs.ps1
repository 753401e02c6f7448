# Jobs of vmms (operations/jobs.ts). Nothing here waits for one.

$HvdrJobStates = @{
    2 = 'new'
    3 = 'starting'
    4 = 'running'
    5 = 'suspended'
    6 = 'shuttingDown'
    7 = 'completed'
    8 = 'terminated'
    9 = 'killed'
    10 = 'exception'
    11 = 'service'
    12 = 'queryPending'
    32768 = 'completedWithWarnings'
}

# Jobs of disks and of migrations are derived from the same class.
function Find-HvdrJob {
    param($JobId)
    $literal = ConvertTo-HvdrLiteral -Value $JobId
    return @(Get-CimInstance -Namespace $HvdrNamespace -ClassName 'CIM_ConcreteJob' -Filter "InstanceID='$literal'")
}

function Get-HvdrJobErrors {
    param($Job)
    $texts = @()
    try {
        $out = Invoke-CimMethod -InputObject $Job -MethodName 'GetErrorEx'
        foreach ($embedded in @(ConvertTo-HvdrList -Value (Get-HvdrOut -Out $out -Name 'Errors'))) {
            $document = [xml]$embedded
            $message = $document.SelectSingleNode("//PROPERTY[@NAME='Message']/VALUE")
            if ($null -ne $message) {
                $texts += $message.InnerText.Replace("`r", ' ').Replace("`n", ' ')
            }
        }
    } catch {
        # a job that has just vanished; what is known of it is answered
        $texts += $_.Exception.Message
    }
    return $texts
}

function Invoke-HvdrJobGet {
    param($Arguments)
    $found = @(Find-HvdrJob -JobId $Arguments.jobId)
    if ($found.Count -eq 0) {
        return @{
            'state' = 'gone'
            'percent' = 0
            'errorCode' = 0
            'errorText' = ''
            'errors' = @()
        }
    }
    $job = $found[0]
    $number = [int]$job.JobState
    $state = "unknown($number)"
    if ($HvdrJobStates.ContainsKey($number)) {
        $state = $HvdrJobStates[$number]
    }
    $text = [string]$job.ErrorDescription
    if ($text -eq '') {
        $text = [string]$job.ErrorSummaryDescription
    }
    $errors = @()
    if (@('terminated', 'killed', 'exception', 'completedWithWarnings') -contains $state) {
        $errors = @(Get-HvdrJobErrors -Job $job)
    }
    return @{
        'state' = $state
        'percent' = [Math]::Min(100, [int]$job.PercentComplete)
        'errorCode' = [int64]$job.ErrorCode
        'errorText' = $text
        'errors' = @($errors)
    }
}

function Invoke-HvdrJobCancel {
    param($Arguments)
    $found = @(Find-HvdrJob -JobId $Arguments.jobId)
    if ($found.Count -eq 0) {
        throw (New-HvdrMissing -Message 'the job is gone')
    }
    $job = $found[0]
    # terminate
    $out = Invoke-CimMethod -InputObject $job -MethodName 'RequestStateChange' -Arguments @{
        'RequestedState' = [uint16]4
    }
    return Get-HvdrVerdict -Out $out
}
