# References of network, multivariate and publication-bias models, by metafor on the shipped data.
# Run in the root of the repository: Rscript tests/reference/make_reference_models.R
# Debian packages: r-cran-metafor r-cran-metadat r-cran-jsonlite. Code after the help pages of
# dat.senn2013, dat.hasselblad1998, dat.berkey1998 and selmodel.
suppressMessages({library(metafor); library(jsonlite)})
read <- function(n) read.csv(paste0("bayesmixed/datasets/data/", n, ".csv"), stringsAsFactors=FALSE)
out <- list()
named <- function(x) as.list(setNames(as.numeric(x), names(x)))

# Arm-based with fixed study effects and rho = 1/2: the same likelihood as the contrast-based model.
nma <- function(d, yi, vi, ref) {
  d$trt <- relevel(factor(d$treatment), ref); d$yi <- yi; d$vi <- vi
  m <- rma.mv(yi, vi, mods = ~ factor(study) + trt - 1, random = ~ trt | study, rho=1/2, data=d)
  k <- grep("^trt", rownames(m$beta)); b <- m$beta[k,1]; names(b) <- sub("^trt", "", names(b))
  V <- vcov(m)[k,k]
  # P-scores (Ruecker & Schwarzer 2015) where lower is better.
  B <- c(b, 0); W <- bldiag(V, 0); p <- sapply(seq_along(B), function(i) mean(sapply(setdiff(seq_along(B), i), function(j) {
    x <- replace(replace(numeric(length(B)), i, 1), j, -1); pnorm(-sum(x*B) / sqrt(c(t(x) %*% W %*% x))) })))
  names(p) <- c(names(b), ref)
  # Design-by-treatment interaction (Higgins et al. 2012; White et al. 2012), heterogeneity of its own.
  d$design <- ave(as.character(d$trt), d$study, FUN=function(x) paste(sort(x), collapse="+"))
  X <- model.matrix(~ factor(study) + trt - 1, d); I <- model.matrix(~ design:trt - 1, d)
  keep <- integer(0); Q <- X
  for (j in seq_len(ncol(I))) { W <- cbind(Q, I[,j]); if (qr(W)$rank == ncol(W)) { Q <- W; keep <- c(keep, j) } }
  E <- I[, keep, drop=FALSE]
  f <- rma.mv(yi, vi, mods = cbind(X, E), intercept=FALSE, random = ~ trt | study, rho=1/2, data=d)
  a <- anova(f, btt=(ncol(X)+1):ncol(cbind(X,E)))
  list(reference=ref, beta=named(b), se=named(setNames(sqrt(diag(V)), names(b))), tau2=m$tau2, logLik_REML=as.numeric(logLik(m)), pscore=named(p),
    interaction=list(df=ncol(E), QM=a$QM, tau2=f$tau2))
}
d <- read("senn2013"); out$senn2013 <- nma(d, d$mi, d$sdi^2/d$ni, "placebo")
d <- read("hasselblad1998"); z <- ave(d$xi == 0 | d$xi == d$ni, d$study, FUN=any)
x <- d$xi + 0.5*z; n <- d$ni + 1*z
out$hasselblad1998 <- nma(d, log(x/(n-x)), 1/x + 1/(n-x), "no_contact")

d <- read("berkey1998"); d$outcome <- factor(d$outcome, levels=c("PD","AL"))
V <- bldiag(lapply(split(d[,c("v1i","v2i")], d$trial), as.matrix))
m <- rma.mv(yi, V, mods = ~ outcome - 1, random = ~ outcome | trial, struct="UN", data=d)
out$berkey1998 <- list(beta=c(m$beta), se=m$se, tau2=m$tau2, rho=m$rho, logLik_REML=as.numeric(logLik(m)))
m <- rma.mv(yi, V, mods = ~ outcome - 1, random = ~ outcome | trial, struct="UN", data=d, method="ML")
out$berkey1998$ML <- list(beta=c(m$beta), tau2=m$tau2, rho=m$rho, logLik=as.numeric(logLik(m)))

d <- read("hackshaw1998"); m <- rma(yi, vi, data=d, method="ML")
sel <- function(steps) { s <- selmodel(m, type="stepfun", alternative="greater", steps=steps)
  list(steps=steps, mu=as.numeric(s$beta), se=s$se, tau2=s$tau2, delta=s$delta, logLik=as.numeric(logLik(s))) }
reg <- function(x, fe) { r <- rma(yi, vi, mods = x, data=d, method=if (fe) "FE" else "ML"); list(beta=c(r$beta), se=r$se, tau2=r$tau2, logLik=as.numeric(logLik(r))) }
out$hackshaw1998 <- list(ML=list(mu=as.numeric(m$beta), se=m$se, tau2=m$tau2, logLik=as.numeric(logLik(m))),
  step_025=sel(0.025), step_025_50=sel(c(0.025, 0.5)),
  pet=reg(~ sqrt(d$vi), TRUE), peese=reg(~ d$vi, TRUE), pet_random=reg(~ sqrt(d$vi), FALSE))
out$versions <- list(R=R.version.string, metafor=as.character(packageVersion("metafor")))
write(toJSON(out, auto_unbox=TRUE, digits=10, pretty=TRUE), "tests/reference/models.json")
