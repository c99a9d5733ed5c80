# Point estimates of a task by lme4, or by glmmTMB.

script <- sub("--file=", "", grep("--file=", commandArgs(), value = TRUE))
source(file.path(dirname(script), "task.R"))
package <- task$package
timed("import", suppressPackageStartupMessages(library(package, character.only = TRUE)))
data <- timed("data", read_data())
formula <- as.formula(task$formula)
family <- switch(task$family,
  gaussian = gaussian(), bernoulli = binomial(), poisson = poisson(),
  negative_binomial = if (package == "glmmTMB") nbinom2() else NULL
)

fit <- timed("sample", suppressMessages(suppressWarnings(
  if (package == "glmmTMB") {
    glmmTMB(formula, data, family = family)
  } else if (task$family == "gaussian") {
    lmer(formula, data)
  } else if (task$family == "negative_binomial") {
    glmer.nb(formula, data)
  } else {
    glmer(formula, data, family = family)
  }
)))
timed("summary", if (isTRUE(task$summary)) summary(fit))

fixed <- if (package == "glmmTMB") fixef(fit)$cond else fixef(fit)
variances <- if (package == "glmmTMB") VarCorr(fit)$cond else VarCorr(fit)
estimates <- setNames(as.list(fixed), sprintf("beta[%s]", vapply(names(fixed), our_term, "")))
for (group in names(variances)) {
  sd <- attr(variances[[group]], "stddev")
  terms <- vapply(names(sd), our_term, "")
  estimates[sprintf("sd_%s[%s]", group, terms)] <- as.list(sd)
}
if (task$family == "gaussian") estimates$sigma <- sigma(fit)
answer(package, estimates = estimates)
